#include "pipeline/run-impl.h"

#include "base/cleanup.h"
#include "model/clean.h"
#include "model/guidance.h"
#include "model/noise.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

DEFINE_CLEANUP(Stream, stream_free)

static int tokenize(
        const Tokenizer *tokenizer, const char *text, const char *what, Tokens *ret, Err *err) {
    _cleanup_free_ char *clean = NULL;
    int r = clean_prompt(text, strlen(text), &clean, err);
    if (r == 0)
        r = tokenizer_encode(tokenizer, clean, strlen(clean), ret->id, TEXT_ROWS, &ret->n, err);
    return r < 0 ? err_prefix(err, r, "%s", what) : 0;
}

static int set_shape(Run *run, Err *err) {
    const Request *r = run->request;
    const ModelDims *d = &run->model->dims;
    int64_t multiple = d->vae.stride_s * d->dit.patch;
    run->c = d->dit.in_channels;
    run->t = vae_latent_frames(&d->vae, r->num_frames);
    run->h = r->height / d->vae.stride_s;
    run->w = r->width / d->vae.stride_s;
    /* Small frames are decoded several at a time: the convolutions get enough to do. */
    enum { CHUNK_PIXELS = 1 << 18 };
    run->chunk = MAX(CHUNK_PIXELS / (r->width * r->height * d->vae.stride_t), (int64_t)1);
    if (r->width % multiple || r->height % multiple ||
            vae_pixel_frames(&d->vae, run->t) != r->num_frames)
        return err_set(err, -EINVAL,
                "a video of %" PRId64 " frames of %" PRId64 "x%" PRId64
                " cannot be made: sizes are multiples of %" PRId64 ", frames are %" PRId64 " n + 1",
                r->num_frames, r->width, r->height, multiple, d->vae.stride_t);
    return dit_check_shape(&d->dit, run->t, run->h, run->w, err);
}

/* Frames of the largest chunk; of the first, stride_t - 1 are missing. */
static int64_t chunk_frames(const Run *run) {
    return MIN(run->chunk * run->model->dims.vae.stride_t, run->request->num_frames);
}

int run_init(Run *run, Model *m, const Tokenizer *tokenizer, const Request *r, Err *err) {
    *run = (Run){.model = m, .request = r};
    int e = set_shape(run, err);
    if (e == 0)
        e = tokenize(tokenizer, r->prompt, "prompt", &run->prompt, err);
    if (e == 0)
        e = tokenize(tokenizer, r->negative_prompt ? r->negative_prompt : "", "negative_prompt",
                &run->negative, err);
    const SamplerOptions options = {
            .kind = r->scheduler == SCHEDULER_EULER ? SAMPLER_EULER : SAMPLER_UNIPC,
            .grid = SIGMAS_DIFFUSERS,
            .n_steps = r->steps,
            .shift = r->flow_shift,
            .n_train = m->dims.scheduler.n_train,
    };
    if (e == 0)
        e = sampler_new(&options, &run->sampler, err);
    return e;
}

void run_done(Run *run) {
    sampler_free(run->sampler);
    free(run->latents);
    free(run->image);
    free(run->frames);
}

int run_prepare(Run *run, const uint8_t *image, Err *err) {
    const Request *r = run->request;
    size_t n_latents = (size_t)(run->c * run->t * run->h * run->w);
    size_t n_pixels = (size_t)(r->width * r->height * 3);
    int64_t n_frames = chunk_frames(run);
    run->latents = malloc(n_latents * sizeof(float));
    run->frames = malloc((size_t)n_frames * n_pixels);
    if (image)
        run->image = malloc(n_pixels * sizeof(float));
    if (!run->latents || !run->frames || (image && !run->image))
        return err_set(err, -ENOMEM,
                "no memory for %zu latents and %" PRId64 " frames of %zu bytes", n_latents,
                n_frames, n_pixels);
    noise_fill(run->latents, (int64_t)n_latents, r->seed, 0);
    if (image)
        vae_pixels_from_u8(run->image, image, n_pixels);
    return 0;
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

static View host_latents(const Run *run) {
    return view_of(run->latents, DTYPE_F32, run->c, run->t, run->h, run->w);
}

static void encode_text(Run *run, Stream *s, const Tokens *tokens, DitContext *ret) {
    Model *m = run->model;
    View rows = stream_temp(s, DTYPE_F32, tokens->n, m->dims.t5.dim);
    umt5_encode(s, m->umt5, rows, tokens->id, NULL);
    dit_context(s, m->dit, rows, ret, NULL);
}

/* [c, 1, h, w]: normalised latents of the given first frame. */
static View encode_image(Run *run, Stream *s) {
    const Request *r = run->request;
    View latents = stream_temp(s, DTYPE_F32, run->c, 1, run->h, run->w);
    size_t mark = stream_mark(s);
    View clip = stream_temp(s, DTYPE_F32, 1, r->height, r->width, 3);
    if (!stream_is_planning(s))
        stream_upload(s, clip, view_of(run->image, DTYPE_F32, 1, r->height, r->width, 3));
    vae_encode(s, run->model->vae, latents, clip, VAE_NORMALISED, 1);
    stream_release(s, mark);
    return latents;
}

/* The result goes to host memory; one that is not finite would only become a black video. */
static int take_latents(Run *run, Stream *s, View x, Err *err) {
    int32_t n = 0;
    View count = stream_temp(s, DTYPE_I32, 1);
    op_count_nonfinite(s, count, x);
    if (stream_is_planning(s))
        return 0;
    stream_download(s, view_of(&n, DTYPE_I32, 1), count);
    stream_download(s, host_latents(run), x);
    int r = stream_finish(s, err);
    if (r < 0 || n == 0)
        return r;
    Err why = {0}; /* worth to read all weights for: it takes the blame off this program */
    int bad = model_find_nonfinite(run->model, &why);
    return err_set(err, -EDOM, "%" PRId32 " of %" PRId64 " latents are NaN or infinite: %s", n,
            view_count(x), bad < 0 ? err_text(&why) : "the weights do not work for this request");
}

static int sample(Run *run, Stream *s, Guidance *g, View x, Err *err) {
    int64_t steps = run->request->steps;
    enter(run, PHASE_DENOISING, (int)steps);
    g->rope = dit_rope(s, g->dit, run->t, run->h, run->w);
    View v = stream_temp(s, DTYPE_F32, run->c, run->t, run->h, run->w);
    if (!stream_is_planning(s))
        stream_upload(s, x, host_latents(run));
    sampler_begin(run->sampler, s, x);
    for (int64_t i = 0; i < steps; i++) {
        size_t mark = stream_mark(s);
        guidance_velocity(s, g, v, x, sampler_timestep(run->sampler, i), NULL);
        sampler_step(run->sampler, s, i, x, v);
        stream_release(s, mark);
        int r = step_done(run, s, err);
        if (r < 0)
            return r;
    }
    guidance_finish(s, g, x);
    return take_latents(run, s, x, err);
}

static int denoise(Run *run, Stream *s, Err *err) {
    const Request *r = run->request;
    DitContext prompt, negative;
    Guidance g = {.dit = run->model->dit,
            .prompt = &prompt,
            .negative = &negative,
            .scale = r->guidance_scale};
    View x = stream_temp(s, DTYPE_F32, run->c, run->t, run->h, run->w);

    enter(run, PHASE_ENCODING_TEXT, 1);
    encode_text(run, s, &run->prompt, &prompt);
    if (r->guidance_scale > 1)
        encode_text(run, s, &run->negative, &negative);
    int e = step_done(run, s, err);
    if (e == 0 && r->image) {
        enter(run, PHASE_ENCODING_IMAGE, 1);
        g.first = encode_image(run, s);
        e = step_done(run, s, err);
    }
    return e == 0 ? sample(run, s, &g, x, err) : e;
}

int run_denoise(Run *run, Stream *s, Err *err) {
    size_t mark = stream_mark(s);
    int r = denoise(run, s, err);
    stream_release(s, mark);
    return r;
}

/* Gives the next chunk to the stream, which decodes it to the first rows of buffer. */
static int64_t give_chunk(Stream *s, VaeDecoder *d, View buffer) {
    int64_t n = vae_decoder_next(d);
    if (n == 0)
        return 0;
    size_t mark = stream_mark(s);
    vae_decode_chunk(d, view_rows(buffer, 0, n));
    stream_release(s, mark);
    return n;
}

static int take_chunk(Run *run, Stream *s, View frames, Err *err) {
    const Request *r = run->request;
    int64_t n = frames.dim[0];
    stream_download(s, view_of(run->frames, DTYPE_U8, n, r->height, r->width, 3), frames);
    int e = step_done(run, s, err);
    if (e == 0)
        atomic_fetch_add_explicit(&run->progress->frames_decoded, (int)n, memory_order_relaxed);
    return e;
}

/* While the sink has a chunk, which may take as long, the device decodes the next. */
static int decode(Run *run, Stream *s, Err *err) {
    const Request *r = run->request;
    View x = stream_temp(s, DTYPE_F32, run->c, run->t, run->h, run->w);
    View buffer = stream_temp(s, DTYPE_U8, chunk_frames(run), r->height, r->width, 3);
    if (!stream_is_planning(s))
        stream_upload(s, x, host_latents(run));
    VaeDecoder d;
    vae_decoder_begin(s, run->model->vae, &d, x, VAE_NORMALISED, run->chunk);
    int e = 0;
    for (int64_t next, n = give_chunk(s, &d, buffer); n > 0 && e == 0; n = next) {
        if (!stream_is_planning(s))
            e = take_chunk(run, s, view_rows(buffer, 0, n), err);
        next = e == 0 ? give_chunk(s, &d, buffer) : 0;
        if (e == 0 && !stream_is_planning(s))
            e = run->sink(run->sink_context, run->frames, n, err);
    }
    if (e < 0)
        (void)stream_finish(s, NULL); /* the workspace is still in use; the sink's failure counts */
    return e;
}

int run_decode(Run *run, Stream *s, Err *err) {
    enter(run, PHASE_DECODING, (int)((run->t + run->chunk - 1) / run->chunk));
    size_t mark = stream_mark(s);
    int r = decode(run, s, err);
    stream_release(s, mark);
    return r;
}

static int plan_phase(
        Run *run, Backend *b, int (*phase)(Run *, Stream *, Err *), size_t *ret, Err *err) {
    _cleanup_(stream_freep) Stream *s = NULL;
    int r = stream_new_planning(b, &s, err);
    if (r == 0)
        r = phase(run, s, err);
    if (r == 0)
        r = stream_finish(s, err);
    if (r == 0)
        *ret = stream_peak(s);
    return r;
}

int run_plan(Run *run, Backend *b, Workspaces *ret, Err *err) {
    Workspaces w = {0};
    int r = plan_phase(run, b, run_denoise, &w.denoise, err);
    if (r == 0)
        r = plan_phase(run, b, run_decode, &w.decode, err);
    if (r == 0)
        *ret = w;
    return r;
}
