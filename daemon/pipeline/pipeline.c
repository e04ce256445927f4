#include "pipeline/pipeline.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "model/clean.h"
#include "model/guidance.h"
#include "model/model.h"
#include "model/noise.h"
#include "model/sampler.h"
#include "model/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

DEFINE_CLEANUP(Sampler, sampler_free)
DEFINE_CLEANUP(Stream, stream_free)
DEFINE_CLEANUP(Pipeline, pipeline_free)

struct Pipeline {
    Backend *backend; /* borrowed */
    Model *model;
    Tokenizer *tokenizer;
    RequestDefaults defaults;
    Stream *stream; /* kept from run to run while its workspace is large enough */
    size_t workspace_bytes;
    uint64_t weight_bytes, peak_bytes;
};

typedef struct Tokens {
    int32_t id[TEXT_ROWS];
    int64_t n;
} Tokens;

/* One run: what is known on the host before any op. Gone through twice, first on a planning stream.
 */
typedef struct Run {
    Pipeline *p;
    const Request *request;
    Progress *progress; /* NULL when only planned */
    FrameSink *sink;
    void *sink_context;
    Tokens prompt, negative;
    Sampler *sampler;
    int64_t c, t, h, w; /* latents */
    int64_t chunk;      /* latent frames decoded at a time */
    bool has_image;
    float *noise;    /* [c, t, h, w]; NULL when only planned */
    float *image;    /* [1, height, width, 3] in -1..1, or NULL */
    uint8_t *frames; /* the largest chunk of frames */
} Run;

static int new_tokenizer(Pipeline *p, const Checkpoint *c, Err *err) {
    const char *spiece;
    size_t n;
    int r = checkpoint_file(c, "tokenizer/spiece.model", &spiece, &n, err);
    if (r < 0)
        return r;
    const char *config; /* comes with checkpoints that mean the Hugging Face tokenizer */
    size_t n_config;
    TokenizerHabit habit =
            checkpoint_file(c, "tokenizer/tokenizer_config.json", &config, &n_config, NULL) == 0
                    ? TOKENIZER_HUGGING_FACE
                    : TOKENIZER_SENTENCEPIECE;
    r = tokenizer_new(spiece, n, p->model->dims.t5.vocab, habit, &p->tokenizer, err);
    return r < 0 ? err_prefix(err, r, "tokenizer/spiece.model") : 0;
}

enum { N_PARTS = 3 };

/* In order of first use. */
static void parts_of(const Pipeline *p, Weights *parts[static N_PARTS]) {
    parts[0] = umt5_weights(p->model->umt5);
    parts[1] = dit_weights(p->model->dit);
    parts[2] = vae_weights(p->model->vae);
}

/* Frames, steps and guidance scale are the official pipeline's, unless model_index.json knows
 * better under "_preheat_defaults": keys with an underscore are nobody else's business there. */
static int read_defaults(Pipeline *p, const Checkpoint *c, Err *err) {
    const SchedulerConfig *scheduler = &p->model->dims.scheduler;
    RequestDefaults *d = &p->defaults;
    *d = (RequestDefaults){
            .width = 1280,
            .height = 704,
            .num_frames = 121,
            .steps = 50,
            .fps = 24,
            .guidance_scale = 5,
            .flow_shift = scheduler->shift,
            .scheduler = scheduler->kind == SAMPLER_EULER ? SCHEDULER_EULER : SCHEDULER_UNIPC,
            .negative_prompt = "",
    };
    const char *text;
    size_t n;
    _cleanup_json_ json_t *index = NULL;
    int r = checkpoint_file(c, "model_index.json", &text, &n, err);
    if (r == 0)
        r = json_parse(text, n, &index, err);
    if (r < 0)
        return err_prefix(err, r, "model_index.json");
    const json_t *own = json_object_get(index, "_preheat_defaults");
    if (!json_is_object(own))
        return 0;
    static const char path[] = "_preheat_defaults";
    r = json_get_int(own, path, "width", JSON_OPTIONAL, 1, 1 << 20, &d->width, err);
    if (r == 0)
        r = json_get_int(own, path, "height", JSON_OPTIONAL, 1, 1 << 20, &d->height, err);
    if (r == 0)
        r = json_get_int(own, path, "num_frames", JSON_OPTIONAL, 1, 1 << 20, &d->num_frames, err);
    if (r == 0)
        r = json_get_int(own, path, "num_inference_steps", JSON_OPTIONAL, 1, SAMPLER_MAX_STEPS,
                &d->steps, err);
    if (r == 0)
        r = json_get_real(own, path, "fps", JSON_OPTIONAL, &d->fps, err);
    if (r == 0)
        r = json_get_real(own, path, "guidance_scale", JSON_OPTIONAL, &d->guidance_scale, err);
    return r < 0 ? err_prefix(err, r, "model_index.json") : 0;
}

int pipeline_new(Backend *b, Checkpoint *c, Pipeline **ret, Err *err) {
    _cleanup_(pipeline_freep) Pipeline *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for a pipeline");
    p->backend = b;
    int r = model_new(c, &p->model, err);
    if (r == 0)
        r = new_tokenizer(p, c, err);
    if (r == 0)
        r = read_defaults(p, c, err);
    if (r < 0)
        return r;
    p->weight_bytes = p->peak_bytes = model_bytes(p->model, b);
    Weights *parts[N_PARTS];
    parts_of(p, parts);
    for (size_t i = 0; i < N_PARTS; i++)
        weights_expect(parts[i]);
    *ret = TAKE_PTR(p);
    return 0;
}

Pipeline *pipeline_free(Pipeline *p) {
    if (!p)
        return NULL;
    stream_free(p->stream);
    tokenizer_free(p->tokenizer);
    model_free(p->model);
    free(p);
    return NULL;
}

static int load_parts(Pipeline *p, Weights *const parts[static N_PARTS], Stream *s,
        const PipelineLoad *how, Err *err) {
    size_t n_groups = 0, n_loaded = 0;
    for (size_t i = 0; i < N_PARTS; i++)
        n_groups += weights_n_groups(parts[i]);
    for (size_t i = 0; i < N_PARTS; i++)
        for (size_t k = 0; k < weights_n_groups(parts[i]); k++) {
            int r = weights_load_group(weights_group_at(parts[i], k), s, how->timeout_usec, err);
            if (r < 0)
                return r;
            r = how->on_group ? how->on_group(how->context, ++n_loaded, n_groups) : 0;
            if (r < 0)
                return err_set(err, r, "loading was stopped");
        }
    return stream_finish(s, err);
}

int pipeline_load(Pipeline *p, const PipelineLoad *how, Err *err) {
    Weights *parts[N_PARTS];
    parts_of(p, parts);
    _cleanup_(stream_freep) Stream *s = NULL;
    int r = stream_new(p->backend, 0, &s, err);
    if (r == 0)
        r = load_parts(p, parts, s, how, err);
    for (size_t i = 0; i < N_PARTS; i++)
        weights_settle(parts[i]);
    return r;
}

void pipeline_defaults(const Pipeline *p, RequestDefaults *ret) {
    *ret = p->defaults;
}

int64_t pipeline_size_multiple(const Pipeline *p) {
    return p->model->dims.vae.stride_s * p->model->dims.dit.patch;
}

uint64_t pipeline_peak_bytes(const Pipeline *p) {
    return p->peak_bytes;
}

static void enter(Run *run, Phase phase, int n_steps) {
    if (run->progress)
        progress_enter(run->progress, phase, n_steps);
}

/* Waits for the work so far, so that a step is counted when it is done and a cancelled run stops
 * here. */
static int step_done(Run *run, Stream *s, Err *err) {
    if (stream_is_planning(s))
        return 0;
    int r = stream_finish(s, err);
    if (r < 0)
        return r;
    atomic_fetch_add_explicit(&run->progress->step, 1, memory_order_relaxed);
    if (atomic_load_explicit(&run->progress->cancelled, memory_order_relaxed))
        return err_set(err, -ECANCELED, "the request was cancelled");
    return 0;
}

static void encode_text(Run *run, Stream *s, const Tokens *tokens, DitContext *ret) {
    Pipeline *p = run->p;
    View rows = stream_temp(s, DTYPE_F32, tokens->n, p->model->dims.t5.dim);
    umt5_encode(s, p->model->umt5, rows, tokens->id, NULL);
    dit_context(s, p->model->dit, rows, ret, NULL);
}

/* [c, 1, h, w]: normalised latents of the given first frame. */
static View encode_image(Run *run, Stream *s) {
    const Request *r = run->request;
    View latents = stream_temp(s, DTYPE_F32, run->c, 1, run->h, run->w);
    size_t mark = stream_mark(s);
    View clip = stream_temp(s, DTYPE_F32, 1, r->height, r->width, 3);
    if (!stream_is_planning(s))
        stream_upload(s, clip, view_of(run->image, DTYPE_F32, 1, r->height, r->width, 3));
    vae_encode(s, run->p->model->vae, latents, clip, VAE_NORMALISED, 1);
    stream_release(s, mark);
    return latents;
}

static int count_nonfinite(Run *run, Stream *s, View x, Err *err) {
    int32_t n = 0;
    View count = stream_temp(s, DTYPE_I32, 1);
    op_count_nonfinite(s, count, x);
    stream_download(s, view_of(&n, DTYPE_I32, 1), count);
    int r = step_done(run, s, err);
    if (r == 0 && n > 0)
        return err_set(err, -EDOM,
                "%" PRId32 " of %" PRId64 " latents are NaN or infinite: the weights"
                " do not work for this request",
                n, view_count(x));
    return r;
}

static int denoise(Run *run, Stream *s, View x, Err *err) {
    Pipeline *p = run->p;
    const Request *r = run->request;
    DitContext prompt, negative;
    Guidance g = {.dit = p->model->dit,
            .prompt = &prompt,
            .negative = &negative,
            .scale = r->guidance_scale};

    enter(run, PHASE_ENCODING_TEXT, 1);
    encode_text(run, s, &run->prompt, &prompt);
    if (r->guidance_scale > 1)
        encode_text(run, s, &run->negative, &negative);
    int e = step_done(run, s, err);
    if (e < 0)
        return e;
    if (run->has_image) {
        enter(run, PHASE_ENCODING_IMAGE, 1);
        g.first = encode_image(run, s);
        e = step_done(run, s, err);
        if (e < 0)
            return e;
    }

    enter(run, PHASE_DENOISING, (int)r->steps);
    g.rope = dit_rope(s, p->model->dit, run->t, run->h, run->w);
    View v = stream_temp(s, DTYPE_F32, run->c, run->t, run->h, run->w);
    if (!stream_is_planning(s))
        stream_upload(s, x, view_of(run->noise, DTYPE_F32, run->c, run->t, run->h, run->w));
    sampler_begin(run->sampler, s, x);
    for (int64_t i = 0; i < r->steps; i++) {
        size_t mark = stream_mark(s);
        guidance_velocity(s, &g, v, x, sampler_timestep(run->sampler, i), NULL);
        sampler_step(run->sampler, s, i, x, v);
        stream_release(s, mark);
        e = step_done(run, s, err);
        if (e < 0)
            return e;
    }
    guidance_finish(s, &g, x);
    return count_nonfinite(run, s, x, err);
}

static int decode(Run *run, Stream *s, View x, Err *err) {
    const Request *r = run->request;
    enter(run, PHASE_DECODING, (int)((run->t + run->chunk - 1) / run->chunk));
    VaeDecoder d;
    vae_decoder_begin(s, run->p->model->vae, &d, x, VAE_NORMALISED, run->chunk);
    for (int64_t n; (n = vae_decoder_next(&d)) > 0;) {
        size_t mark = stream_mark(s);
        View frames = stream_temp(s, DTYPE_U8, n, r->height, r->width, 3);
        vae_decode_chunk(&d, frames);
        if (!stream_is_planning(s))
            stream_download(s, view_of(run->frames, DTYPE_U8, n, r->height, r->width, 3), frames);
        stream_release(s, mark);
        int e = step_done(run, s, err);
        if (e < 0)
            return e;
        if (stream_is_planning(s))
            continue;
        atomic_fetch_add_explicit(&run->progress->frames_decoded, (int)n, memory_order_relaxed);
        e = run->sink(run->sink_context, run->frames, n, err);
        if (e < 0)
            return e;
    }
    return 0;
}

static int run_on(Run *run, Stream *s, Err *err) {
    size_t start = stream_mark(s);
    View x = stream_temp(s, DTYPE_F32, run->c, run->t, run->h, run->w);
    size_t mark = stream_mark(s);
    int r = denoise(run, s, x, err);
    stream_release(s, mark);
    if (r == 0)
        r = decode(run, s, x, err);
    stream_release(s, start);
    return r;
}

static int tokenize(const Pipeline *p, const char *text, const char *what, Tokens *ret, Err *err) {
    _cleanup_free_ char *clean = NULL;
    int r = clean_prompt(text, strlen(text), &clean, err);
    if (r == 0)
        r = tokenizer_encode(p->tokenizer, clean, strlen(clean), ret->id, TEXT_ROWS, &ret->n, err);
    return r < 0 ? err_prefix(err, r, "%s", what) : 0;
}

static void run_done(Run *run) {
    sampler_free(run->sampler);
    free(run->noise);
    free(run->image);
    free(run->frames);
}

/* What planning needs too. */
static int run_init(Run *run, Pipeline *p, const Request *r, Err *err) {
    const VaeDims *vae = &p->model->dims.vae;
    *run = (Run){.p = p, .request = r};
    run->c = p->model->dims.dit.in_channels;
    run->t = vae_latent_frames(vae, r->num_frames);
    run->h = r->height / vae->stride_s;
    run->w = r->width / vae->stride_s;
    run->has_image = r->image != NULL;
    /* Small frames are decoded several at a time: the convolutions get enough to do. */
    enum { CHUNK_PIXELS = 1 << 18 };
    run->chunk = MAX(CHUNK_PIXELS / (r->width * r->height * vae->stride_t), (int64_t)1);
    if (r->width % pipeline_size_multiple(p) || r->height % pipeline_size_multiple(p) ||
            vae_pixel_frames(vae, run->t) != r->num_frames)
        return err_set(err, -EINVAL,
                "a video of %" PRId64 " frames of %" PRId64 "x%" PRId64
                " cannot be made: sizes are multiples of %" PRId64 ", frames are %" PRId64 " n + 1",
                r->num_frames, r->width, r->height, pipeline_size_multiple(p), vae->stride_t);
    int e = dit_check_shape(&p->model->dims.dit, run->t, run->h, run->w, err);
    if (e == 0)
        e = tokenize(p, r->prompt, "prompt", &run->prompt, err);
    if (e == 0)
        e = tokenize(p, r->negative_prompt ? r->negative_prompt : "", "negative_prompt",
                &run->negative, err);
    const SamplerOptions options = {
            .kind = r->scheduler == SCHEDULER_EULER ? SAMPLER_EULER : SAMPLER_UNIPC,
            .grid = SIGMAS_DIFFUSERS,
            .n_steps = r->steps,
            .shift = r->flow_shift,
            .n_train = p->model->dims.scheduler.n_train,
    };
    if (e == 0)
        e = sampler_new(&options, &run->sampler, err);
    return e;
}

static int plan(Run *run, size_t *ret, Err *err) {
    _cleanup_(stream_freep) Stream *s = NULL;
    int r = stream_new_planning(run->p->backend, &s, err);
    if (r == 0)
        r = run_on(run, s, err);
    if (r == 0)
        r = stream_finish(s, err);
    if (r == 0)
        *ret = stream_peak(s);
    return r;
}

int pipeline_workspace_bytes(Pipeline *p, const Request *r, size_t *ret, Err *err) {
    Run run;
    int e = run_init(&run, p, r, err);
    if (e == 0)
        e = plan(&run, ret, err);
    run_done(&run);
    return e;
}

static int allocate_host(Run *run, const uint8_t *image, Err *err) {
    const Request *r = run->request;
    const VaeDims *vae = &run->p->model->dims.vae;
    size_t n_latents = (size_t)(run->c * run->t * run->h * run->w);
    size_t n_pixels = (size_t)(r->width * r->height * 3);
    int64_t n_frames = MIN(run->chunk * vae->stride_t, r->num_frames);
    run->noise = malloc(n_latents * sizeof(float));
    run->frames = malloc((size_t)n_frames * n_pixels);
    if (image)
        run->image = malloc(n_pixels * sizeof(float));
    if (!run->noise || !run->frames || (image && !run->image))
        return err_set(err, -ENOMEM,
                "no memory for %zu latents and %" PRId64 " frames of %zu bytes", n_latents,
                n_frames, n_pixels);
    noise_fill(run->noise, (int64_t)n_latents, r->seed, 0);
    if (image)
        vae_pixels_from_u8(run->image, image, n_pixels);
    return 0;
}

static int ensure_workspace(Pipeline *p, size_t bytes, Err *err) {
    if (p->stream && p->workspace_bytes >= bytes)
        return 0;
    p->stream = stream_free(p->stream); /* first: both may not fit */
    int r = stream_new(p->backend, bytes, &p->stream, err);
    if (r < 0)
        return err_prefix(err, r, "weights take %" PRIu64 " MiB, %" PRIu64 " MiB are free",
                p->weight_bytes >> 20, backend_memory_free(p->backend) >> 20);
    p->workspace_bytes = bytes;
    p->peak_bytes = MAX(p->peak_bytes, p->weight_bytes + bytes);
    return 0;
}

int pipeline_run(Pipeline *p, const Request *r, const uint8_t *image, Progress *progress,
        FrameSink *sink, void *context, Err *err) {
    assert((r->image != NULL) == (image != NULL));
    Run run;
    size_t bytes;
    int e = run_init(&run, p, r, err);
    if (e == 0)
        e = plan(&run, &bytes, err);
    if (e == 0)
        e = ensure_workspace(p, bytes, err);
    if (e == 0)
        e = allocate_host(&run, image, err);
    if (e == 0) {
        run.progress = progress;
        run.sink = sink;
        run.sink_context = context;
        e = run_on(&run, p->stream, err);
    }
    run_done(&run);
    return e;
}
