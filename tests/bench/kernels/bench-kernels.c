/* bench-kernels MODULE.so [--portable] [NAME...]
 *
 * Times the operations that decide a clip's time, at the sizes of Wan2.2-TI2V-5B for 1280x704 and
 * 121 frames, on random data. Prints one line a case: milliseconds (median) and TFLOP/s or GB/s. */
#include "backend/ops.h"
#include "base/clock.h"
#include "base/half.h"
#include "base/macro.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANDOM_BYTES = 16 << 20, MAX_TENSORS = 16, RUNS = 7 };

typedef struct Bench {
    Backend *backend;
    Stream *stream;
    uint16_t *random; /* RANDOM_BYTES of bf16 */
    Memory *memory[MAX_TENSORS];
    int n_memory;
    char **names;
    int n_names;
} Bench;

/* Sums of four uniform numbers, near enough to a normal distribution of deviation 0.58. */
static void fill_random(uint16_t *to, size_t n) {
    uint64_t state = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < n; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)(state >> (16 * k) & 0xffff) / 65536.0f - 0.5f;
        to[i] = bf16_from_f32(sum);
    }
}

static void must(int r, const Err *err, const char *what) {
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", what, err_text(err));
        exit(r == -ENODEV ? 77 : 1);
    }
}

static View tensor_of(Bench *b, DType dtype, int rank, const int64_t dim[]) {
    Err err = {0};
    View v = view_make(NULL, dtype, rank, dim);
    size_t bytes = view_bytes(v);
    assert(b->n_memory < MAX_TENSORS);
    must(memory_new(b->backend, bytes, &b->memory[b->n_memory], &err), &err, "memory");
    v.data = memory_data(b->memory[b->n_memory++]);
    for (size_t at = 0; at < bytes; at += RANDOM_BYTES) {
        int64_t n = (int64_t)(MIN((size_t)RANDOM_BYTES, bytes - at) / dtype_bytes(dtype));
        View part = view_of((char *)v.data + at, dtype, n);
        if (dtype == DTYPE_BF16) {
            stream_upload(b->stream, part, view_of(b->random, dtype, n));
        } else {
            op_fill(b->stream, part, 0.5f);
        }
    }
    return v;
}
#define tensor(b, dtype, ...)                                                                      \
    tensor_of((b), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),             \
            (const int64_t[]){__VA_ARGS__})

static void clear(Bench *b) {
    for (; b->n_memory > 0; b->n_memory--)
        memory_free(b->memory[b->n_memory - 1]);
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

typedef void Call(Stream *s, const void *context);

static bool is_wanted(const Bench *b, const char *name) {
    for (int i = 0; i < b->n_names; i++)
        if (str_starts(name, b->names[i]))
            return true;
    return b->n_names == 0;
}

/* Each run is some calls in a row, so that the wait at its end does not count. */
static void measure(
        Bench *b, const char *name, Call *call, const void *context, double flops, double bytes) {
    Err err = {0};
    double usec[RUNS];
    call(b->stream, context);
    must(stream_finish(b->stream, &err), &err, name);
    uint64_t begin = clock_usec();
    call(b->stream, context);
    must(stream_finish(b->stream, &err), &err, name);
    uint64_t once = MAX(clock_usec() - begin, (uint64_t)1);
    int calls = once > 20000 ? 1 : (int)(20000 / once) + 1;
    for (int i = 0; i < RUNS; i++) {
        begin = clock_usec();
        for (int k = 0; k < calls; k++)
            call(b->stream, context);
        must(stream_finish(b->stream, &err), &err, name);
        usec[i] = (double)(clock_usec() - begin) / calls;
    }
    qsort(usec, RUNS, sizeof(usec[0]), order);
    double median = usec[RUNS / 2];
    printf("%-44s %10.3f ms %8.1f TFLOP/s %8.0f GB/s\n", name, median * 1e-3, flops / median * 1e-6,
            bytes / median * 1e-3);
    (void)fflush(stdout);
    clear(b);
}

typedef struct Linear {
    View y, x, w, bias;
    Activation act;
} Linear;

static void linear_call(Stream *s, const void *context) {
    const Linear *c = context;
    op_linear(s, c->y, c->x, c->w, c->bias, c->act);
}

static void linear(Bench *b, const char *name, int64_t m, int64_t n, int64_t k, Activation act) {
    if (!is_wanted(b, name))
        return;
    Linear c = {tensor(b, DTYPE_BF16, m, n), tensor(b, DTYPE_BF16, m, k),
            tensor(b, DTYPE_BF16, n, k), tensor(b, DTYPE_F32, n), act};
    measure(b, name, linear_call, &c, 2.0 * (double)(m * n * k), 2.0 * (double)(m * (n + k)));
}

static void attention_call(Stream *s, const void *context) {
    op_attention(s, context);
}

static void attention(
        Bench *b, const char *name, int64_t tq, int64_t tk, int64_t heads, int64_t d) {
    if (!is_wanted(b, name))
        return;
    int64_t width = heads * d;
    AttentionArgs a = {.o = tensor(b, DTYPE_BF16, tq, width),
            .q = tensor(b, DTYPE_BF16, tq, width),
            .k = tensor(b, DTYPE_BF16, tk, width),
            .v = tensor(b, DTYPE_BF16, tk, width),
            .n_heads = heads,
            .scale = 1 / sqrtf((float)d)};
    measure(b, name, attention_call, &a, 4.0 * (double)(tq * tk * width),
            4.0 * (double)((tq + tk) * width));
}

static void conv_call(Stream *s, const void *context) {
    op_conv(s, context);
}

typedef struct ConvShape {
    const char *name;
    int64_t t, h, w, c, n;
    int kt, k;
    bool up;
} ConvShape;

static void conv(Bench *b, const ConvShape *c) {
    if (!is_wanted(b, c->name))
        return;
    int64_t up = c->up ? 2 : 1;
    View weight = tensor(b, DTYPE_BF16, c->n, c->c, c->kt, c->k, c->k);
    ConvArgs a = {.y = tensor(b, DTYPE_BF16, c->t, up * c->h, up * c->w, c->n),
            .x = tensor(b, DTYPE_BF16, c->t, c->h, c->w, c->c),
            .prev = c->kt > 1 ? tensor(b, DTYPE_BF16, c->kt - 1, c->h, c->w, c->c) : (View){0},
            .w = c->kt > 1 ? weight : view_reshape(weight, c->n, c->c, c->k, c->k),
            .bias = tensor(b, DTYPE_F32, c->n),
            .stride_t = 1,
            .stride_s = 1,
            .pad_lo = c->k / 2,
            .pad_hi = c->k / 2,
            .upsample = c->up};
    double outputs = (double)(c->t * up * c->h * up * c->w * c->n);
    measure(b, c->name, conv_call, &a, 2 * outputs * (double)(c->c * c->kt * c->k * c->k),
            2 * (outputs + (double)(c->t * c->h * c->w * c->c)));
}

typedef struct Norm {
    View y, x, a, b;
} Norm;

static void modulate_call(Stream *s, const void *context) {
    const Norm *c = context;
    op_norm_modulate(s, c->y, c->x, c->a, c->b, 1e-6f);
}
static void rope_call(Stream *s, const void *context) {
    const Norm *c = context;
    op_norm_rope(s, c->y, c->x, c->a, c->b, 24, 1e-6f);
}
static void gated_call(Stream *s, const void *context) {
    const Norm *c = context;
    op_add_gated(s, c->x, c->y, c->a);
}
static void vae_norm_call(Stream *s, const void *context) {
    const Norm *c = context;
    op_vae_norm(s, c->y, c->x, c->a, ACT_SILU);
}

static void norms(Bench *b) {
    const int64_t m = 27280, n = 3072;
    double count = (double)(m * n);
    if (is_wanted(b, "norm_modulate")) {
        Norm c = {tensor(b, DTYPE_BF16, m, n), tensor(b, DTYPE_F32, m, n), tensor(b, DTYPE_F32, n),
                tensor(b, DTYPE_F32, n)};
        measure(b, "norm_modulate 27280x3072 f32->bf16", modulate_call, &c, 0, 6 * count);
    }
    if (is_wanted(b, "norm_rope")) {
        Norm c = {tensor(b, DTYPE_BF16, m, n), tensor(b, DTYPE_BF16, m, n), tensor(b, DTYPE_F32, n),
                tensor(b, DTYPE_F32, m, 64, 2)};
        measure(b, "norm_rope 27280x3072", rope_call, &c, 0, 4 * count);
    }
    if (is_wanted(b, "add_gated")) {
        Norm c = {tensor(b, DTYPE_BF16, m, n), tensor(b, DTYPE_F32, m, n), tensor(b, DTYPE_F32, n),
                {0}};
        measure(b, "add_gated 27280x3072 f32 += bf16", gated_call, &c, 0, 10 * count);
    }
    if (is_wanted(b, "vae_norm")) {
        Norm c = {tensor(b, DTYPE_BF16, 4, 352, 640, 256), tensor(b, DTYPE_BF16, 4, 352, 640, 256),
                tensor(b, DTYPE_F32, 256), {0}};
        measure(b, "vae_norm+silu 4x352x640x256", vae_norm_call, &c, 0, 4.0 * 4 * 352 * 640 * 256);
    }
}

static void run(Bench *b) {
    linear(b, "linear 8192x8192x8192", 8192, 8192, 8192, ACT_NONE);
    linear(b, "linear qkvo 27280x3072x3072", 27280, 3072, 3072, ACT_NONE);
    linear(b, "linear ffn up+gelu 27280x14336x3072", 27280, 14336, 3072, ACT_GELU_TANH);
    linear(b, "linear ffn up 27280x14336x3072", 27280, 14336, 3072, ACT_NONE);
    linear(b, "linear ffn down 27280x3072x14336", 27280, 3072, 14336, ACT_NONE);
    linear(b, "linear t5 512x10240x4096", 512, 10240, 4096, ACT_NONE);
    attention(b, "attention self 27280 24x128", 27280, 27280, 24, 128);
    attention(b, "attention self 8190 24x128", 8190, 8190, 24, 128);
    attention(b, "attention cross 27280x65 24x128", 27280, 65, 24, 128);
    attention(b, "attention t5 512 64x64", 512, 512, 64, 64);
    attention(b, "attention vae 3520 1x1024", 3520, 3520, 1, 1024);
    static const ConvShape shapes[] = {
            {"conv level 0 1x44x80 1024->1024 333", 1, 44, 80, 1024, 1024, 3, 3, false},
            {"conv level 1 2x88x160 1024->1024 333", 2, 88, 160, 1024, 1024, 3, 3, false},
            {"conv level 2 4x176x320 512->512 333", 4, 176, 320, 512, 512, 3, 3, false},
            {"conv level 3 4x352x640 256->256 333", 4, 352, 640, 256, 256, 3, 3, false},
            {"conv up 1 4x88x160 1024->1024 up 33", 4, 88, 160, 1024, 1024, 1, 3, true},
            {"conv up 2 4x176x320 512->512 up 33", 4, 176, 320, 512, 512, 1, 3, true},
            {"conv out 4x352x640 256->12 333", 4, 352, 640, 256, 12, 3, 3, false},
            {"conv time 2x88x160 1024->2048 311", 2, 88, 160, 1024, 2048, 3, 1, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        conv(b, &shapes[i]);
    norms(b);
}

int main(int argc, char *argv[]) {
    if (argc < 2) {
        fprintf(stderr, "usage: bench-kernels MODULE.so [--portable] [NAME...]\n");
        return 2;
    }
    Err err = {0};
    const BackendModule *m;
    bool portable = argc > 2 && str_eq(argv[2], "--portable");
    BackendOptions options = {.isa = portable ? ISA_PORTABLE : ISA_BEST};
    int first = portable ? 3 : 2;
    Bench b = {.names = argv + first, .n_names = argc - first};
    must(backend_load(argv[1], &m, &err), &err, "backend");
    must(backend_open(m, &options, &b.backend, &err), &err, "backend");
    must(stream_new(b.backend, 0, &b.stream, &err), &err, "stream");
    b.random = malloc(RANDOM_BYTES);
    if (!b.random)
        return 1;
    fill_random(b.random, RANDOM_BYTES / sizeof(uint16_t));
    printf("%s%s\n", backend_info(b.backend)->device, portable ? ", portable kernels" : "");
    run(&b);
    free(b.random);
    stream_free(b.stream);
    backend_free(b.backend);
    return 0;
}
