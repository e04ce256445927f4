/* bench-engine - seconds of each stage of a model on a backend, and the arithmetic rate reached.
 *
 *   bench-engine --model DIR [--backend cpu|MODULE.so] [--exact-f32] [--threads N] [--size WxH]
 * [--frames N]
 *                [--repeat N] [--stages product,t5,dit,vae,encode] [--grid ROWSxCOLS]
 *                [--chunk N] [--pin] [--plan]
 *
 * --pin has the backend lock the checkpoint's bytes in memory before they are loaded. --grid has
 * the VAE decode in so many tiles, --chunk so many latent frames at a time. --plan tells the
 * workspaces and loads nothing.
 *
 * One JSON object a line. The product of two square matrices is what the others may be held
 * against: the rate that this backend reaches where nothing is in its way. FLOP are counted as two
 * a multiply-add of the formulas' products and convolutions, in the form in which the model defines
 * them: what a backend saves by algebra counts as done. */
#include "backend/cpu/module.h"
#include "backend/ops.h"
#include "base/clock.h"
#include "base/str.h"
#include "model/model.h"
#include "model/noise.h"
#include "store/checkpoint.h"
#include "store/manifest.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_REPEAT = 100 };

typedef struct Bench {
    Backend *backend;
    Model *model;
    Stream *stream;
    int64_t width, height, frames, repeat;
    VaeGrid grid;       /* to decode in */
    int64_t chunk;      /* latent frames decoded at a time */
    int64_t c, t, h, w; /* latents */
    View x, y, weight;  /* of the stage at hand, made before it is timed */
    View rope;
    DitContext context;
} Bench;

typedef double StageFlop(const Bench *b);
/* Inputs that a request makes once and its steps share: not timed. */
typedef void StagePrepare(Bench *b, Stream *s);
/* Gives a stage's work to the stream once; the same calls plan its workspace. */
typedef void StageRun(Bench *b, Stream *s);

static void fail(const char *what, const Err *err) {
    (void)fprintf(stderr, "bench-engine: %s: %s\n", what, err_text(err));
    exit(EXIT_FAILURE);
}

static View random_latents(const Bench *b, Stream *s, int64_t t) {
    View x = stream_temp(s, DTYPE_F32, b->c, t, b->h, b->w);
    if (stream_is_planning(s))
        return x;
    int64_t n = view_count(x);
    float *host = malloc((size_t)n * sizeof(float));
    if (!host)
        exit(EXIT_FAILURE);
    noise_fill(host, n, 1, 0);
    stream_upload(s, x, view_of(host, DTYPE_F32, b->c, t, b->h, b->w));
    free(host);
    return x;
}

enum { PRODUCT = 2048 };

static double product_flop(const Bench *b) {
    return 2.0 * PRODUCT * PRODUCT * PRODUCT;
}

static void product_prepare(Bench *b, Stream *s) {
    DType dtype = backend_info(b->backend)->activation;
    b->x = stream_temp(s, dtype, PRODUCT, PRODUCT);
    b->y = stream_temp(s, dtype, PRODUCT, PRODUCT);
    b->weight = stream_temp(s, dtype, PRODUCT, PRODUCT);
    op_fill(s, b->x, 0.5f);
    op_fill(s, b->weight, 0.25f);
}

static void product_run(Bench *b, Stream *s) {
    op_linear(s, b->y, b->x, b->weight, (View){0}, ACT_NONE);
}

static double t5_flop(const Bench *b) {
    const T5Dims *d = &b->model->dims.t5;
    double n = TEXT_ROWS, dim = (double)d->dim, inner = (double)d->inner, ffn = (double)d->ffn;
    return (double)d->n_layers * (8 * n * dim * inner + 6 * n * dim * ffn + 4 * n * n * inner);
}

static void nothing_prepare(Bench *b, Stream *s) {}

static void t5_run(Bench *b, Stream *s) {
    const T5Dims *d = &b->model->dims.t5;
    int32_t ids[TEXT_ROWS];
    for (int i = 0; i < TEXT_ROWS; i++)
        ids[i] = (int32_t)((i * 7919 + 3) % d->vocab);
    View rows = stream_temp(s, DTYPE_F32, TEXT_ROWS, d->dim);
    umt5_encode(s, b->model->umt5, rows, ids, NULL);
}

static double dit_flop(const Bench *b) {
    const DitDims *d = &b->model->dims.dit;
    double n = (double)dit_n_tokens(d, b->t, b->h, b->w), dim = (double)d->dim,
           ffn = (double)d->ffn;
    double layer = 8 * n * dim * dim + 4 * n * n * dim + 4 * n * dim * dim +
                   4 * TEXT_ROWS * dim * dim + 4 * n * TEXT_ROWS * dim + 4 * n * dim * ffn;
    return (double)d->n_layers * layer;
}

static void dit_prepare(Bench *b, Stream *s) {
    const DitDims *d = &b->model->dims.dit;
    b->x = random_latents(b, s, b->t);
    b->y = stream_temp(s, DTYPE_F32, b->c, b->t, b->h, b->w);
    b->rope = dit_rope(s, b->model->dit, b->t, b->h, b->w);
    View rows = stream_temp(s, DTYPE_F32, 24, d->text_dim);
    op_fill(s, rows, 0.5f);
    dit_context(s, b->model->dit, rows, &b->context, NULL);
}

/* The run that warms up fills the context's keys and values, as a prompt's first step does. */
static void dit_run(Bench *b, Stream *s) {
    const DitDims *d = &b->model->dims.dit;
    const DitRun run = {.n_tokens = dit_n_tokens(d, b->t, b->h, b->w), .timestep = 700};
    const DitForward f = {
            .x = b->x,
            .rope = b->rope,
            .runs = &run,
            .n_runs = 1,
            .n_contexts = 1,
            .context = {&b->context},
            .y = {b->y},
    };
    dit_forward(s, b->model->dit, &f);
}

/* Residual block and resampler of one level, multiply-adds a pixel of its grid. */
static double res_flop(double c_in, double c_out) {
    return 2 * 27 * (c_in * c_out + c_out * c_out) + (c_in != c_out ? 2 * c_in * c_out : 0);
}

static double vae_flop(const Bench *b) {
    const VaeDims *d = &b->model->dims.vae;
    double grid = (double)(b->h * b->w), t = (double)b->t;
    double c = (double)(d->decoder_base * d->mult[d->n_levels - 1]);
    double flop = grid * t * (2 * 27 * (double)d->latent * c + 2 * res_flop(c, c) + 8 * c * c) +
                  4 * c * grid * grid * t;
    for (int64_t i = d->n_levels - 1; i >= 0; i--) {
        double c_out = (double)(d->decoder_base * d->mult[i]);
        flop += grid * t * (res_flop(c, c_out) + (double)d->n_res_blocks * res_flop(c_out, c_out));
        if (i > 0) {
            if (d->temporal[i - 1]) {
                flop += grid * (t - 1) * 2 * 3 * c_out * 2 * c_out;
                t = 2 * t - 1;
            }
            grid *= 4;
            flop += grid * t * 2 * 9 * c_out * c_out;
        }
        c = c_out;
    }
    return flop + grid * t * 2 * 27 * c * (double)d->patched;
}

static void vae_prepare(Bench *b, Stream *s) {
    b->x = random_latents(b, s, b->t);
}

static void vae_run(Bench *b, Stream *s) {
    VaeDecoder d;
    vae_decoder_begin(s, b->model->vae, &d, b->x, VAE_NORMALISED, b->chunk, b->grid);
    for (VaePiece p; (p = vae_decoder_next(&d)).n > 0;) {
        size_t mark = stream_mark(s);
        vae_decode_chunk(&d, stream_temp(s, DTYPE_U8, p.n, p.h, p.w, 3));
        stream_release(s, mark);
    }
}

static double no_flop(const Bench *b) {
    return 0;
}

static void encode_run(Bench *b, Stream *s) {
    View latents = stream_temp(s, DTYPE_F32, b->c, 1, b->h, b->w);
    View clip = stream_temp(s, DTYPE_F32, 1, b->height, b->width, 3);
    op_fill(s, clip, 0.25f);
    vae_encode(s, b->model->vae, latents, clip, VAE_NORMALISED, 1);
}

static const struct {
    const char *name;
    StagePrepare *prepare;
    StageRun *run;
    StageFlop *flop;
} stages[] = {
        {"product", product_prepare, product_run, product_flop},
        {"t5", nothing_prepare, t5_run, t5_flop},
        {"dit", dit_prepare, dit_run, dit_flop},
        {"vae", vae_prepare, vae_run, vae_flop},
        {"encode", nothing_prepare, encode_run, no_flop},
};

static int compare_times(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t plan_stage(Bench *b, size_t which) {
    Stream *s;
    Err err = {0};
    if (stream_new_planning(b->backend, &s, &err) < 0)
        fail("planning", &err);
    stages[which].prepare(b, s);
    stages[which].run(b, s);
    if (stream_finish(s, &err) < 0)
        fail("planning", &err);
    size_t bytes = stream_peak(s);
    stream_free(s);
    return bytes;
}

static void tell_plan(Bench *b, size_t which) {
    (void)printf("{\"stage\":\"%s\",\"workspace_mib\":%.1f}\n", stages[which].name,
            (double)plan_stage(b, which) / 1048576);
}

static void time_stage(Bench *b, size_t which) {
    Err err = {0};
    size_t bytes = plan_stage(b, which);
    Stream *s;
    if (stream_new(b->backend, bytes, &s, &err) < 0)
        fail(stages[which].name, &err);
    double seconds[MAX_REPEAT];
    stages[which].prepare(b, s);
    if (stream_finish(s, &err) < 0)
        fail(stages[which].name, &err);
    for (int64_t i = -1; i < b->repeat; i++) { /* the first run warms up */
        size_t mark = stream_mark(s);
        uint64_t start = clock_usec();
        stages[which].run(b, s);
        if (stream_finish(s, &err) < 0)
            fail(stages[which].name, &err);
        stream_release(s, mark);
        if (i >= 0)
            seconds[i] = (double)(clock_usec() - start) / 1e6;
    }
    stream_free(s);
    qsort(seconds, (size_t)b->repeat, sizeof(seconds[0]), compare_times);
    double median = seconds[b->repeat / 2], flop = stages[which].flop(b);
    (void)printf("{\"stage\":\"%s\",\"median_s\":%.5f,\"min_s\":%.5f,\"max_s\":%.5f,\"n\":%" PRId64
                 ",\"tflop\":%.4f,\"tflop_per_s\":%.3f,\"workspace_mib\":%.1f}\n",
            stages[which].name, median, seconds[0], seconds[b->repeat - 1], b->repeat, flop / 1e12,
            flop / 1e12 / median, (double)bytes / 1048576);
    (void)fflush(stdout);
}

/* Says so when the memory cannot be locked: the load is another one then. */
static void pin(Bench *b, const Checkpoint *c) {
    for (size_t i = 0; i < checkpoint_n_ranges(c); i++) {
        const void *data;
        size_t bytes;
        Err err = {0};
        checkpoint_range(c, i, &data, &bytes);
        if (backend_pin(b->backend, data, bytes, &err) < 0)
            (void)fprintf(stderr, "not pinned: %s\n", err_text(&err));
    }
}

static void load(Bench *b, const Checkpoint *c) {
    Stream *s;
    Err err = {0};
    if (stream_new(b->backend, 0, &s, &err) < 0)
        fail("load", &err);
    uint64_t start = clock_usec();
    if (model_load(b->model, s, USEC_INFINITY, &err) < 0 || stream_finish(s, &err) < 0)
        fail("load", &err);
    double seconds = (double)(clock_usec() - start) / 1e6;
    stream_free(s);
    (void)printf("{\"stage\":\"load\",\"median_s\":%.5f,\"weights_mib\":%.1f,\"device\":\"%s\"}\n",
            seconds, (double)model_bytes(b->model, b->backend) / 1048576,
            backend_info(b->backend)->device);
    (void)fflush(stdout);
}

static int64_t number(const char *text, int64_t min, int64_t max) {
    int64_t n;
    if (str_to_i64(text, &n) == 0 && n >= min && n <= max)
        return n;
    (void)fprintf(stderr, "bench-engine: '%s' is not a number from %" PRId64 " to %" PRId64 "\n",
            text, min, max);
    exit(2);
}

/* "1280x704" */
static void pair(const char *text, int64_t *ret_a, int64_t *ret_b) {
    if (sscanf(text, "%" SCNd64 "x%" SCNd64, ret_a, ret_b) == 2 && *ret_a > 0 && *ret_b > 0)
        return;
    (void)fprintf(stderr, "bench-engine: '%s' is not two numbers with an x between\n", text);
    exit(2);
}

typedef struct Options {
    const char *model, *backend, *stages;
    BackendOptions device;
    bool pin, plan;
} Options;

static void usage(void) {
    (void)fputs("bench-engine --model DIR [--backend cpu|MODULE.so] [--exact-f32] [--threads N]\n"
                "             [--size WxH] [--frames N] [--repeat N] [--stages "
                "product,t5,dit,vae,encode]\n"
                "             [--grid ROWSxCOLS] [--chunk N] [--pin] [--plan]\n",
            stderr);
    exit(2);
}

static void parse_options(int argc, char **argv, Options *o, Bench *b) {
    static const struct option options[] = {{"model", required_argument, NULL, 'm'},
            {"backend", required_argument, NULL, 'b'}, {"exact-f32", no_argument, NULL, 'e'},
            {"threads", required_argument, NULL, 't'}, {"size", required_argument, NULL, 's'},
            {"frames", required_argument, NULL, 'f'}, {"repeat", required_argument, NULL, 'r'},
            {"stages", required_argument, NULL, 'S'}, {"grid", required_argument, NULL, 'g'},
            {"chunk", required_argument, NULL, 'c'}, {"pin", no_argument, NULL, 'p'},
            {"plan", no_argument, NULL, 'P'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'm')
            o->model = optarg;
        else if (c == 'b')
            o->backend = optarg;
        else if (c == 'e')
            o->device.exact_f32 = true;
        else if (c == 't')
            o->device.n_threads = (int)number(optarg, 0, 1024);
        else if (c == 's')
            pair(optarg, &b->width, &b->height);
        else if (c == 'f')
            b->frames = number(optarg, 1, 10000);
        else if (c == 'r')
            b->repeat = number(optarg, 1, MAX_REPEAT);
        else if (c == 'S')
            o->stages = optarg;
        else if (c == 'g')
            pair(optarg, &b->grid.rows, &b->grid.cols);
        else if (c == 'c')
            b->chunk = number(optarg, 1, 10000);
        else if (c == 'p')
            o->pin = true;
        else if (c == 'P')
            o->plan = true;
        else
            usage();
    }
    if (!o->model)
        usage();
}

/* The latents of the size that was asked for. */
static void set_shape(Bench *b) {
    const VaeDims *vae = &b->model->dims.vae;
    Err err = {0};
    b->c = b->model->dims.dit.in_channels;
    b->t = vae_latent_frames(vae, b->frames);
    b->h = b->height / vae->stride_s;
    b->w = b->width / vae->stride_s;
    if (dit_check_shape(&b->model->dims.dit, b->t, b->h, b->w, &err) < 0)
        fail("--size, --frames", &err);
    if (b->grid.rows > b->h || b->grid.cols > b->w)
        fail("--grid", &(Err){.text = "a tile has a latent at least"});
}

int main(int argc, char **argv) {
    Options o = {.backend = "cpu", .stages = "t5,dit,vae,encode"};
    Bench b = {
            .width = 1280, .height = 704, .frames = 121, .repeat = 5, .grid = {1, 1}, .chunk = 1};
    parse_options(argc, argv, &o, &b);
    Err err = {0};
    Manifest *manifest;
    Checkpoint *checkpoint;
    const BackendModule *module = &backend_cpu;
    if (manifest_open(o.model, &manifest, &err) < 0 ||
            checkpoint_open_files(manifest, &checkpoint, &err) < 0 ||
            model_new(checkpoint, &b.model, &err) < 0)
        fail(o.model, &err);
    if (!str_eq(o.backend, "cpu") && backend_load(o.backend, &module, &err) < 0)
        fail(o.backend, &err);
    if (backend_open(module, &o.device, &b.backend, &err) < 0)
        fail(o.backend, &err);
    set_shape(&b);
    if (o.pin)
        pin(&b, checkpoint);
    if (!o.plan)
        load(&b, checkpoint);
    for (size_t i = 0; i < ARRAY_LEN(stages); i++)
        if (strstr(o.stages, stages[i].name))
            (o.plan ? tell_plan : time_stage)(&b, i);
    model_free(b.model);
    backend_free(b.backend);
    checkpoint_free(checkpoint);
    manifest_free(manifest);
    return 0;
}
