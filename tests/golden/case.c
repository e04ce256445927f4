#include "golden.h"

#include "base/cleanup.h"
#include "base/macro.h"
#include "base/str.h"
#include "model/guidance.h"
#include "model/sampler.h"

#include <errno.h>
#include <string.h>

/* One of the two texts. */
typedef struct Prompt {
    const char *text;
    const char *ids_name, *rows_name;
    View ids;  /* [n] I32; null without guidance where the file has none */
    View rows; /* [n, dim]: the encoder's output for them */
    View own;  /* [n, dim]: ours for our own ids of the text */
} Prompt;

/* A file's inputs and results, [c, t, h, w] latents throughout. */
typedef struct Case {
    Golden *g;
    SamplerOptions options;
    double guidance;
    int64_t height, width, n_frames;
    int64_t latent[4];
    Prompt prompt, negative;
    View noise;             /* latent */
    View image;             /* [3, H, W]; null without a given first frame */
    View first;             /* [c, h, w]: its latents */
    View timesteps, sigmas; /* [steps], [steps + 1] */
    View velocity, latents; /* [steps, latent] */
    View final;             /* latent */
    View ends;              /* [3, 2, H, W] */
    View frames;            /* [F, H, W, 3] U8 */
} Case;

static int read_options(Case *c, Err *err) {
    const Reference *f = &c->g->file;
    const char *scheduler;
    SamplerOptions *o = &c->options;
    o->n_train = c->g->model->dims.scheduler.n_train;
    int r = reference_text(f, "scheduler", &scheduler, err);
    if (r == 0)
        r = reference_text(f, "prompt", &c->prompt.text, err);
    if (r == 0)
        r = reference_text(f, "negative_prompt", &c->negative.text, err);
    if (r == 0)
        r = reference_int(f, "steps", 1, SAMPLER_MAX_STEPS, &o->n_steps, err);
    if (r == 0)
        r = reference_real(f, "flow_shift", 0.01, 100, &o->shift, err);
    if (r == 0)
        r = reference_real(f, "guidance_scale", 0, 1000, &c->guidance, err);
    if (r == 0)
        r = reference_int(f, "height", 1, 1 << 14, &c->height, err);
    if (r == 0)
        r = reference_int(f, "width", 1, 1 << 14, &c->width, err);
    if (r == 0)
        r = reference_int(f, "num_frames", 1, 1 << 14, &c->n_frames, err);
    if (r < 0)
        return r;
    if (str_eq(scheduler, "unipc"))
        o->kind = SAMPLER_UNIPC;
    else if (str_eq(scheduler, "euler"))
        o->kind = SAMPLER_EULER;
    else
        return err_set(
                err, -EBADMSG, "metadata 'scheduler' is '%s', wanted is unipc or euler", scheduler);
    return 0;
}

static int set_latent_shape(Case *c, Err *err) {
    const ModelDims *d = &c->g->model->dims;
    int64_t stride = d->vae.stride_s;
    if (c->height % stride != 0 || c->width % stride != 0 ||
            (c->n_frames - 1) % d->vae.stride_t != 0)
        return err_set(err, -EBADMSG, "%jd frames of %jdx%jd do not divide into latents",
                (intmax_t)c->n_frames, (intmax_t)c->width, (intmax_t)c->height);
    c->latent[0] = d->vae.latent;
    c->latent[1] = vae_latent_frames(&d->vae, c->n_frames);
    c->latent[2] = c->height / stride;
    c->latent[3] = c->width / stride;
    return dit_check_shape(&d->dit, c->latent[1], c->latent[2], c->latent[3], err);
}

static int read_prompt(const Golden *g, Prompt *p, Err *err) {
    int r = REFERENCE_GET(&g->file, p->ids_name, DTYPE_I32, &p->ids, err, -1);
    if (r == 0)
        r = REFERENCE_GET(&g->file, p->rows_name, DTYPE_F32, &p->rows, err, p->ids.dim[0],
                g->model->dims.t5.dim);
    if (r == 0 && p->ids.dim[0] > TEXT_ROWS)
        return err_set(err, -EBADMSG, "tensor '%s' has %jd ids, wanted are at most %d", p->ids_name,
                (intmax_t)p->ids.dim[0], TEXT_ROWS);
    return r;
}

static int read_tensors(Case *c, Err *err) {
    const Reference *f = &c->g->file;
    const int64_t *l = c->latent;
    int64_t steps = c->options.n_steps;
    int r = read_prompt(c->g, &c->prompt, err);
    if (r == 0 && (c->guidance > 1 || reference_has(f, "negative_input_ids")))
        r = read_prompt(c->g, &c->negative, err);
    if (r == 0 && reference_has(f, "image"))
        r = REFERENCE_GET(f, "image", DTYPE_F32, &c->image, err, 3, c->height, c->width);
    if (r == 0 && reference_has(f, "image"))
        r = REFERENCE_GET(f, "image_latents", DTYPE_F32, &c->first, err, l[0], l[2], l[3]);
    if (r == 0)
        r = reference_get(f, "initial_noise", DTYPE_F32, 4, l, &c->noise, err);
    if (r == 0)
        r = REFERENCE_GET(f, "timesteps", DTYPE_F32, &c->timesteps, err, steps);
    if (r == 0)
        r = REFERENCE_GET(f, "sigmas", DTYPE_F32, &c->sigmas, err, steps + 1);
    if (r == 0)
        r = REFERENCE_GET(
                f, "velocity", DTYPE_F32, &c->velocity, err, steps, l[0], l[1], l[2], l[3]);
    if (r == 0)
        r = REFERENCE_GET(f, "latents", DTYPE_F32, &c->latents, err, steps, l[0], l[1], l[2], l[3]);
    if (r == 0)
        r = reference_get(f, "final_latents", DTYPE_F32, 4, l, &c->final, err);
    if (r == 0)
        r = REFERENCE_GET(
                f, "frames_float_first_last", DTYPE_F32, &c->ends, err, 3, 2, c->height, c->width);
    if (r == 0)
        r = REFERENCE_GET(
                f, "frames", DTYPE_U8, &c->frames, err, c->n_frames, c->height, c->width, 3);
    return r;
}

/* Ids from the text; rows from the file's ids; for the free run, rows from our own ids. */
static int check_prompt(Golden *g, Prompt *p, Err *err) {
    int32_t id[TEXT_ROWS];
    int64_t n;
    if (view_is_null(p->ids))
        return 0;
    int r = tokenizer_encode(g->tokenizer, p->text, strlen(p->text), id, TEXT_ROWS, &n, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", p->ids_name);
    verdict_ids(g->verdict, p->ids_name, id, (size_t)n, p->ids.data, (size_t)p->ids.dim[0]);

    View found = golden_host(g, DTYPE_F32, 2, p->rows.dim, err);
    if (view_is_null(found))
        return -ENOMEM;
    r = golden_encode(g, p->ids, found, err);
    if (r < 0)
        return r;
    golden_compare(g, p->rows_name, found, p->rows, g->limits->forward);
    p->own = GOLDEN_HOST(g, DTYPE_F32, err, n, p->rows.dim[1]);
    if (view_is_null(p->own))
        return -ENOMEM;
    return golden_encode(g, view_of(id, DTYPE_I32, n), p->own, err);
}

typedef struct EncodeImage {
    const Vae *vae;
    View clip, latents;
} EncodeImage;

static void encode_image(Stream *s, void *context) {
    const EncodeImage *e = context;
    View y = stream_temp_of(s, DTYPE_F32, 4, e->latents.dim);
    vae_encode(s, e->vae, y, golden_upload(s, e->clip), VAE_NORMALISED, 1);
    stream_download(s, e->latents, y);
}

/* *found becomes our latents of the image, [c, 1, h, w]. */
static int check_image(Case *c, View *found, Err *err) {
    if (view_is_null(c->image))
        return 0;
    View clip = golden_clip(c->g, view_reshape(c->image, 3, 1, c->height, c->width), err);
    *found = GOLDEN_HOST(c->g, DTYPE_F32, err, c->latent[0], 1, c->latent[2], c->latent[3]);
    if (view_is_null(clip) || view_is_null(*found))
        return -ENOMEM;
    int r = golden_run(c->g, encode_image, &(EncodeImage){c->g->model->vae, clip, *found}, err);
    if (r == 0)
        golden_compare(c->g, "image_latents", *found, c->first, c->g->limits->forward);
    return r;
}

/* The levels are scalars: nothing but the rounding to f32 may differ. */
static void check_levels(Case *c, const Sampler *p) {
    int64_t n = c->options.n_steps;
    float timestep[SAMPLER_MAX_STEPS], sigma[SAMPLER_MAX_STEPS + 1];
    for (int64_t i = 0; i < n; i++)
        timestep[i] = (float)sampler_timestep(p, i);
    for (int64_t i = 0; i <= n; i++)
        sigma[i] = (float)sampler_sigma(p, i);
    verdict_f32(c->g->verdict, "timesteps", difference_of(timestep, c->timesteps.data, (size_t)n),
            2e-7);
    verdict_f32(c->g->verdict, "sigmas", difference_of(sigma, c->sigmas.data, (size_t)n + 1), 2e-7);
}

/* What a run over the steps is made from and what it gives. */
typedef struct Run {
    Case *c;
    Sampler *sampler;
    View rows, negative_rows, first; /* host */
    bool own; /* each step starts where the one before came out, not at the file's latents */
    bool with_velocity, with_step; /* compute it, or take the file's */
    View velocity, latents, final; /* host, results; null where not computed */
} Run;

static View step_input(const Run *r, int64_t i) {
    return i == 0 ? r->c->noise : view_at(r->c->latents, i - 1);
}

/* Contexts and table that guidance_velocity() needs, on the device. */
static void begin_guidance(Stream *s, const Run *r, Guidance *g, DitContext context[2]) {
    const Case *c = r->c;
    *g = (Guidance){
            .dit = c->g->model->dit,
            .rope = dit_rope(s, c->g->model->dit, c->latent[1], c->latent[2], c->latent[3]),
            .prompt = &context[0],
            .negative = &context[1],
            .scale = c->guidance,
    };
    dit_context(s, g->dit, golden_upload(s, r->rows), &context[0], NULL);
    if (c->guidance > 1)
        dit_context(s, g->dit, golden_upload(s, r->negative_rows), &context[1], NULL);
    if (!view_is_null(r->first))
        g->first = golden_upload(
                s, view_reshape(r->first, c->latent[0], 1, c->latent[2], c->latent[3]));
}

static void run_steps(Stream *s, void *context) {
    const Run *r = context;
    DitContext contexts[2];
    Guidance g = {0};
    View x = stream_temp_of(s, DTYPE_F32, 4, r->c->latent);
    View v = stream_temp_of(s, DTYPE_F32, 4, r->c->latent);
    if (r->with_velocity)
        begin_guidance(s, r, &g, contexts);
    if (r->with_step)
        sampler_begin(r->sampler, s, x);
    for (int64_t i = 0; i < r->c->options.n_steps; i++) {
        if (!r->own || i == 0)
            stream_upload(s, x, step_input(r, i));
        double timestep = r->own ? sampler_timestep(r->sampler, i)
                                 : (double)((const float *)r->c->timesteps.data)[i];
        if (r->with_velocity)
            guidance_velocity(s, &g, v, x, timestep, NULL);
        else
            stream_upload(s, v, view_at(r->c->velocity, i));
        if (!view_is_null(r->velocity))
            stream_download(s, view_at(r->velocity, i), v);
        if (r->with_step)
            sampler_step(r->sampler, s, i, x, v);
        if (!view_is_null(r->latents))
            stream_download(s, view_at(r->latents, i), x);
    }
    if (!view_is_null(r->final)) {
        guidance_finish(s, &g, x);
        stream_download(s, r->final, x);
    }
}

static void compare_steps(Case *c, const char *name, View found, View wanted, double limit) {
    int64_t n = c->options.n_steps;
    verdict_steps(c->g->verdict, name, found.data, wanted.data, n, (size_t)(view_count(wanted) / n),
            limit);
}

static int check_velocity(Case *c, Err *err) {
    View found = golden_host(c->g, DTYPE_F32, 5, c->velocity.dim, err);
    if (view_is_null(found))
        return -ENOMEM;
    Run run = {
            .c = c,
            .rows = c->prompt.rows,
            .negative_rows = c->negative.rows,
            .first = c->first,
            .with_velocity = true,
            .velocity = found,
    };
    int r = golden_run(c->g, run_steps, &run, err);
    const Limits *l = c->g->limits;
    if (r == 0)
        compare_steps(c, "velocity", found, c->velocity, c->guidance > 1 ? l->guided : l->forward);
    return r;
}

static int check_steps(Case *c, Sampler *p, Err *err) {
    View found = golden_host(c->g, DTYPE_F32, 5, c->latents.dim, err);
    if (view_is_null(found))
        return -ENOMEM;
    Run run = {.c = c, .sampler = p, .with_step = true, .latents = found};
    int r = golden_run(c->g, run_steps, &run, err);
    if (r == 0)
        compare_steps(c, "latents", found, c->latents, c->g->limits->step);
    return r;
}

typedef struct Finish {
    const Case *c;
    View final; /* host, result */
} Finish;

static void finish(Stream *s, void *context) {
    const Finish *f = context;
    const Case *c = f->c;
    Guidance g = {0};
    View x = golden_upload(s, view_at(c->latents, c->options.n_steps - 1));
    if (!view_is_null(c->first))
        g.first = golden_upload(
                s, view_reshape(c->first, c->latent[0], 1, c->latent[2], c->latent[3]));
    guidance_finish(s, &g, x);
    stream_download(s, f->final, x);
}

/* Copies only: any difference is a wrong copy. */
static int check_final(Case *c, Err *err) {
    View found = golden_host(c->g, DTYPE_F32, 4, c->latent, err);
    if (view_is_null(found))
        return -ENOMEM;
    int r = golden_run(c->g, finish, &(Finish){c, found}, err);
    if (r == 0)
        golden_compare(c->g, "final_latents", found, c->final, 2e-7);
    return r;
}

/* First and last frame as [3, 2, H, W]. */
static int take_ends(Case *c, View frames, View *ret, Err *err) {
    View ends = golden_host(c->g, DTYPE_F32, 4, c->ends.dim, err);
    if (view_is_null(ends))
        return -ENOMEM;
    int64_t area = c->height * c->width, last = c->n_frames - 1;
    const float *from = frames.data;
    float *to = ends.data;
    for (int64_t k = 0; k < 3; k++)
        for (int64_t i = 0; i < area; i++) {
            to[(2 * k) * area + i] = from[3 * i + k];
            to[(2 * k + 1) * area + i] = from[3 * (last * area + i) + k];
        }
    *ret = ends;
    return 0;
}

static int check_frames(Case *c, Err *err) {
    const Limits *l = c->g->limits;
    View real = golden_host(c->g, DTYPE_F32, 4, c->frames.dim, err);
    View bytes = view_is_null(real) ? real : golden_host(c->g, DTYPE_U8, 4, c->frames.dim, err);
    View ends;
    if (view_is_null(bytes))
        return -ENOMEM;
    int r = golden_decode(c->g, c->final, &(GoldenDecode){VAE_NORMALISED, 1, {1, 1}}, real, err);
    if (r == 0)
        r = take_ends(c, real, &ends, err);
    if (r == 0)
        r = golden_decode(c->g, c->final, &(GoldenDecode){VAE_NORMALISED, 2, {2, 2}}, bytes, err);
    if (r < 0)
        return r;
    golden_compare(c->g, "frames_float_first_last", ends, c->ends, l->forward);
    verdict_bytes(c->g->verdict, "frames", bytes.data, c->frames.data, (size_t)view_count(bytes),
            &l->frames);
    return 0;
}

/* From the prompt, the image and the noise alone to the video. */
static int check_chain(Case *c, Run *run, Err *err) {
    const Limits *l = c->g->limits;
    run->latents = golden_host(c->g, DTYPE_F32, 5, c->latents.dim, err);
    if (!view_is_null(run->latents))
        run->final = golden_host(c->g, DTYPE_F32, 4, c->latent, err);
    View frames = {0};
    if (!view_is_null(run->final))
        frames = golden_host(c->g, DTYPE_U8, 4, c->frames.dim, err);
    if (view_is_null(frames))
        return -ENOMEM;
    int r = golden_run(c->g, run_steps, run, err);
    if (r == 0)
        r = golden_decode(
                c->g, run->final, &(GoldenDecode){VAE_NORMALISED, 3, {1, 1}}, frames, err);
    if (r < 0)
        return r;
    compare_steps(c, "chain latents", run->latents, c->latents, l->chain);
    golden_compare(c->g, "chain final_latents", run->final, c->final, l->chain);
    verdict_bytes(c->g->verdict, "chain frames", frames.data, c->frames.data,
            (size_t)view_count(frames), &l->chain_frames);
    return 0;
}

DEFINE_CLEANUP(Sampler, sampler_free)

static int check_all(Case *c, Err *err) {
    _cleanup_(sampler_freep) Sampler *p = NULL;
    Run chain = {.c = c, .own = true, .with_velocity = true, .with_step = true};
    int r = sampler_new(&c->options, &p, err);
    if (r == 0)
        r = check_prompt(c->g, &c->prompt, err);
    if (r == 0)
        r = check_prompt(c->g, &c->negative, err);
    if (r == 0)
        r = check_image(c, &chain.first, err);
    if (r < 0)
        return r;
    check_levels(c, p);
    r = check_velocity(c, err);
    if (r == 0)
        r = check_steps(c, p, err);
    if (r == 0)
        r = check_final(c, err);
    if (r == 0)
        r = check_frames(c, err);
    chain.sampler = p;
    chain.rows = c->prompt.own;
    chain.negative_rows = c->negative.own;
    if (r == 0)
        r = check_chain(c, &chain, err);
    return r;
}

int golden_case(Golden *g, Err *err) {
    Case c = {
            .g = g,
            .prompt = {.ids_name = "input_ids", .rows_name = "prompt_embeds"},
            .negative = {.ids_name = "negative_input_ids", .rows_name = "negative_prompt_embeds"},
    };
    int r = read_options(&c, err);
    if (r == 0)
        r = set_latent_shape(&c, err);
    if (r == 0)
        r = read_tensors(&c, err);
    if (r == 0)
        r = check_all(&c, err);
    return r;
}
