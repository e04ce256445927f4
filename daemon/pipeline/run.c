#include "pipeline/run-impl.h"

#include "base/cleanup.h"
#include "model/clean.h"
#include "model/guidance.h"
#include "model/noise.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

DEFINE_CLEANUP(Stream, stream_free)

static_assert((int)CLEAN_MAX_RESULT <= (int)TOKENIZER_MAX_BYTES, "what was cleaned is tokenised");

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
    *run = (Run){.model = m, .request = r, .grid = {1, 1}};
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
    free(run->piece);
    free(run->video);
}

bool run_cut(Run *run) {
    VaeGrid *g = &run->grid;
    int64_t rows = run->h / g->rows, cols = run->w / g->cols;
    if (MAX(rows, cols) < 2 * RUN_MIN_TILE)
        return false;
    *(rows > cols ? &g->rows : &g->cols) *= 2;
    return true;
}

static bool has_tiles(const Run *run) {
    return run->grid.rows * run->grid.cols > 1;
}

int run_prepare(Run *run, const uint8_t *image, Err *err) {
    const Request *r = run->request;
    size_t n_latents = (size_t)(run->c * run->t * run->h * run->w);
    size_t n_pixels = (size_t)(r->width * r->height * 3);
    int64_t n_kept = chunk_frames(run) + (has_tiles(run) ? r->num_frames : 0);
    run->latents = malloc(n_latents * sizeof(float));
    run->piece = malloc((size_t)chunk_frames(run) * n_pixels);
    if (has_tiles(run))
        run->video = malloc((size_t)r->num_frames * n_pixels);
    if (image)
        run->image = malloc(n_pixels * sizeof(float));
    if (!run->latents || !run->piece || (has_tiles(run) && !run->video) || (image && !run->image))
        return err_set(err, -ENOMEM,
                "no memory for %zu latents and %" PRId64 " frames of %zu bytes", n_latents, n_kept,
                n_pixels);
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
    /* One step needs what every step needs. */
    int64_t steps = stream_is_planning(s) ? 1 : run->request->steps;
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
        stream_hurry(s, false);
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

    stream_hurry(s, true); /* until the first step is done: it is waited for */
    enter(run, PHASE_ENCODING_TEXT, 1);
    encode_text(run, s, &run->prompt, &prompt);
    if (r->guidance_scale > 1)
        encode_text(run, s, &run->negative, &negative);
    if (!stream_is_planning(s)) /* while the device is at the texts */
        noise_fill(run->latents, run->c * run->t * run->h * run->w, r->seed, 0);
    int e = step_done(run, s, err);
    if (e == 0 && r->image) {
        enter(run, PHASE_ENCODING_IMAGE, 1);
        g.first = encode_image(run, s);
        e = step_done(run, s, err);
    }
    return e == 0 ? sample(run, s, &g, x, err) : e;
}

/* Gives the stream a phase's ops, and no more of them once the request is cancelled. */
static int run_phase(Run *run, Stream *s, int (*phase)(Run *, Stream *, Err *), Err *err) {
    size_t mark = stream_mark(s);
    if (run->progress)
        stream_stop_on(s, &run->progress->cancelled);
    int r = phase(run, s, err);
    stream_stop_on(s, NULL);
    stream_release(s, mark);
    return r;
}

int run_denoise(Run *run, Stream *s, Err *err) {
    return run_phase(run, s, denoise, err);
}

static View piece_view(void *data, const VaePiece *p) {
    return view_of(data, DTYPE_U8, p->n, p->h, p->w, 3);
}

/* Gives the next piece to the stream, which decodes it to the head of buffer. */
static VaePiece give_piece(Stream *s, VaeDecoder *d, View buffer) {
    VaePiece p = vae_decoder_next(d);
    if (p.n == 0)
        return p;
    size_t mark = stream_mark(s);
    vae_decode_chunk(d, piece_view(buffer.data, &p));
    stream_release(s, mark);
    return p;
}

/* A tile's rows to where they belong in the video. */
static void place_piece(Run *run, const VaePiece *p) {
    const Request *r = run->request;
    size_t bytes = (size_t)(p->w * 3);
    const uint8_t *from = run->piece;
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t y = p->y; y < p->y + p->h; y++, from += bytes)
            memcpy(run->video + (((p->frame + i) * r->height + y) * r->width + p->x) * 3, from,
                    bytes);
}

static int take_piece(Run *run, Stream *s, View buffer, const VaePiece *p, Err *err) {
    stream_download(s, piece_view(run->piece, p), piece_view(buffer.data, p));
    int e = step_done(run, s, err);
    if (e < 0)
        return e;
    if (run->video)
        place_piece(run, p);
    run->n_decoded += p->n;
    atomic_store_explicit(&run->progress->frames_decoded,
            (int)(run->n_decoded / (run->grid.rows * run->grid.cols)), memory_order_relaxed);
    return 0;
}

/* Frames are handed on in order, hence when their last tile is there. */
static int hand_on(Run *run, const VaePiece *p, Err *err) {
    if (!p->last)
        return 0;
    const Request *r = run->request;
    const uint8_t *frames =
            run->video ? run->video + p->frame * r->height * r->width * 3 : run->piece;
    return run->sink(run->sink_context, frames, p->n, err);
}

/* While the sink has some frames, which may take as long, the device decodes the next. */
static int decode(Run *run, Stream *s, Err *err) {
    int64_t rows = (run->h + run->grid.rows - 1) / run->grid.rows; /* of the largest tile */
    int64_t cols = (run->w + run->grid.cols - 1) / run->grid.cols;
    int64_t pixels = run->model->dims.vae.stride_s;
    View x = stream_temp(s, DTYPE_F32, run->c, run->t, run->h, run->w);
    View buffer = stream_temp(s, DTYPE_U8, chunk_frames(run), rows * pixels, cols * pixels, 3);
    if (!stream_is_planning(s))
        stream_upload(s, x, host_latents(run));
    VaeDecoder d;
    vae_decoder_begin(s, run->model->vae, &d, x, VAE_NORMALISED, run->chunk, run->grid);
    int e = 0;
    for (VaePiece next, p = give_piece(s, &d, buffer); p.n > 0 && e == 0; p = next) {
        if (!stream_is_planning(s))
            e = take_piece(run, s, buffer, &p, err);
        next = e == 0 ? give_piece(s, &d, buffer) : (VaePiece){0};
        if (e == 0 && !stream_is_planning(s))
            e = hand_on(run, &p, err);
    }
    if (e < 0)
        (void)stream_finish(s, NULL); /* the workspace is still in use; the sink's failure counts */
    return e;
}

int run_decode(Run *run, Stream *s, Err *err) {
    int64_t n_chunks = (run->t + run->chunk - 1) / run->chunk;
    enter(run, PHASE_DECODING, (int)(n_chunks * run->grid.rows * run->grid.cols));
    return run_phase(run, s, decode, err);
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
