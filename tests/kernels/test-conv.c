/* op_conv. */
#include "harness.h"

#include "base/macro.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct ConvCase {
    int64_t t, h, w, c_in, c_out, p; /* p: frames of prev */
    int kt, kh, kw;                  /* kt 0: a weight of rank 4 */
    int zero_frames, stride_t, stride_s, pad_lo, pad_hi;
    bool upsample;
    int add;     /* 1: apart, 2: y itself */
    int64_t gap; /* between frames of x and y */
    int seed;    /* picks dtypes */
} ConvCase;

typedef struct Operands {
    const Tensor *x, *prev, *w, *bias, *add;
    Tensor *y;
} Operands;

/* The input at padded coordinates, by the definition in ops.h. */
static double input_at(const ConvCase *c, const Operands *o, const int64_t at[3], int64_t channel) {
    int64_t up = c->upsample ? 2 : 1, frame = at[0] - c->zero_frames;
    int64_t row = at[1] - c->pad_lo, col = at[2] - c->pad_lo;
    if (frame < 0 || row < 0 || col < 0 || row >= up * c->h || col >= up * c->w)
        return 0;
    const Tensor *from = frame < c->p ? o->prev : o->x;
    if (frame >= c->p)
        frame -= c->p;
    return from->value[((frame * c->h + row / up) * c->w + col / up) * c->c_in + channel];
}

static Sum want_sum(const ConvCase *c, const Operands *o, const int64_t y[4]) {
    Sum s = {0};
    int kt = MAX(c->kt, 1);
    for (int64_t i = 0; i < c->c_in; i++)
        for (int a = 0; a < kt; a++)
            for (int b = 0; b < c->kh; b++)
                for (int d = 0; d < c->kw; d++) {
                    const int64_t at[] = {
                            y[0] * c->stride_t + a, y[1] * c->stride_s + b, y[2] * c->stride_s + d};
                    int64_t w = (((y[3] * c->c_in + i) * kt + a) * c->kh + b) * c->kw + d;
                    sum_add(&s, input_at(c, o, at, i) * o->w->value[w]);
                }
    sum_add(&s, o->bias->value[y[3]]);
    return s;
}

static void output_extents(const ConvCase *c, int64_t ret[4]) {
    int64_t up = c->upsample ? 2 : 1, pads = c->pad_lo + c->pad_hi;
    ret[0] = (c->zero_frames + c->p + c->t - MAX(c->kt, 1)) / c->stride_t + 1;
    ret[1] = (up * c->h + pads - c->kh) / c->stride_s + 1;
    ret[2] = (up * c->w + pads - c->kw) / c->stride_s + 1;
    ret[3] = c->c_out;
}

static Operands make_operands(Test *t, const ConvCase *c) {
    static const DType dtypes[] = {DTYPE_BF16, DTYPE_F32, DTYPE_F16};
    DType dtype = dtypes[c->seed % 3];
    Layout layout = {.gap = c->gap};
    int64_t e[4];
    output_extents(c, e);
    Operands o = {.x = tensor(t, "x", ROLE_IN, t->act, layout, c->t, c->h, c->w, c->c_in)};
    if (c->p > 0)
        o.prev = tensor(t, "prev", ROLE_IN, t->act, DENSE, c->p, c->h, c->w, c->c_in);
    o.w = c->kt ? weight(t, "w", WEIGHT_CONV, dtype, c->c_out, c->c_in, c->kt, c->kh, c->kw)
                : weight(t, "w", WEIGHT_CONV, dtype, c->c_out, c->c_in, c->kh, c->kw);
    o.bias = weight(t, "bias", WEIGHT_VECTOR, dtype, c->c_out);
    o.y = tensor(
            t, "y", c->add == 2 ? ROLE_INOUT : ROLE_OUT, t->act, layout, e[0], e[1], e[2], e[3]);
    if (c->add)
        o.add = c->add == 2 ? o.y
                            : tensor(t, "add", ROLE_IN, t->act, layout, e[0], e[1], e[2], e[3]);
    return o;
}

static ConvArgs args_of(const ConvCase *c, const Operands *o) {
    return (ConvArgs){.y = o->y->view,
            .prev = o->prev ? o->prev->view : (View){0},
            .x = o->x->view,
            .w = o->w->view,
            .bias = o->bias->view,
            .add = o->add ? o->add->view : (View){0},
            .zero_frames = c->zero_frames,
            .stride_t = c->stride_t,
            .stride_s = c->stride_s,
            .pad_lo = c->pad_lo,
            .pad_hi = c->pad_hi,
            .upsample = c->upsample};
}

static bool begin_case(Test *t, const ConvCase *c) {
    return case_begin(t,
            "[%" PRId64 "+%" PRId64 "+%d,%" PRId64 ",%" PRId64 ",%" PRId64 "] -> %" PRId64
            ", kernel %d %d %d, stride %d %d, pad %d %d, gap %" PRId64 "%s, add %d",
            c->t, c->p, c->zero_frames, c->h, c->w, c->c_in, c->c_out, c->kt, c->kh, c->kw,
            c->stride_t, c->stride_s, c->pad_lo, c->pad_hi, c->gap, c->upsample ? ", upsample" : "",
            c->add);
}

static void conv_case(Test *t, const ConvCase *c) {
    if (!begin_case(t, c))
        return;
    Operands o = make_operands(t, c);
    ConvArgs a = args_of(c, &o);
    op_conv(t->stream, &a);
    int64_t e[4];
    output_extents(c, e);
    for (int64_t i = 0; i < view_count(o.y->view); i++) {
        int64_t rest = i / e[3];
        const int64_t at[] = {rest / e[2] / e[1], rest / e[2] % e[1], rest % e[2], i % e[3]};
        Sum s = want_sum(c, &o, at);
        if (o.add)
            sum_add(&s, o.add->value[i]);
        tensor_want(t, o.y, i, s.value, sum_tolerance(t, &s));
    }
    case_end(t);
}

/* The model's own: causal 3x3x3 with 0, 1 and 2 frames before, temporal up and down, spatial up and
 * down, 1x1x1, the attention's 1x1. */
static void model_cases(Test *t, int64_t h, int64_t w, int64_t c_in, int64_t c_out, int seed) {
    ConvCase c = {.h = h, .w = w, .c_in = c_in, .c_out = c_out, .stride_t = 1, .stride_s = 1};
    c.seed = seed;
    c.add = seed % 3;
    c.gap = seed % 4 == 1 ? 8 : 0;

    ConvCase causal = c;
    causal.kt = causal.kh = causal.kw = 3;
    causal.pad_lo = causal.pad_hi = 1;
    for (int before = 0; before <= 2; before++) {
        causal.t = 1 + (seed + before) % 3;
        causal.p = before;
        causal.zero_frames = 2 - before;
        conv_case(t, &causal);
    }

    ConvCase up = c;
    up.t = 2;
    up.kh = up.kw = 3;
    up.pad_lo = up.pad_hi = 1;
    up.upsample = true;
    conv_case(t, &up);

    ConvCase down = c;
    down.t = 2;
    down.kh = down.kw = 3;
    down.stride_s = 2;
    down.pad_hi = 1;
    if (h > 1 && w > 1)
        conv_case(t, &down);

    ConvCase time = c;
    time.t = 4;
    time.p = 1;
    time.kt = 3;
    time.kh = time.kw = 1;
    time.stride_t = 2;
    conv_case(t, &time);
    time.stride_t = 1;
    time.t = 2;
    time.p = seed % 2 ? 2 : 0;
    time.zero_frames = seed % 2 ? 0 : 2;
    conv_case(t, &time);

    ConvCase point = c;
    point.t = 2;
    point.kh = point.kw = 1;
    point.kt = seed % 2;
    conv_case(t, &point);
}

static void conv_check(Test *t) {
    static const int64_t sizes[][2] = {{1, 1}, {1, 9}, {7, 8}, {8, 7}, {9, 17}, {13, 70}};
    static const int64_t channels[][2] = {
            {1, 1}, {3, 12}, {7, 9}, {8, 16}, {12, 16}, {16, 31}, {17, 48}, {31, 33}, {64, 67}};
    int seed = 0;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (size_t k = 0; k < ARRAY_LEN(channels); k++, seed++)
            if (sizes[i][0] * sizes[i][1] < 500 || channels[k][1] < 20)
                model_cases(t, sizes[i][0], sizes[i][1], channels[k][0], channels[k][1], seed);
    static const ConvCase others[] = {
            /* Deep enough for several pieces of a line, and for narrow tiles of few rows. */
            {.t = 1,
                    .h = 3,
                    .w = 5,
                    .c_in = 300,
                    .c_out = 20,
                    .kt = 1,
                    .kh = 3,
                    .kw = 3,
                    .stride_t = 1,
                    .stride_s = 1,
                    .pad_lo = 1,
                    .pad_hi = 1},
            {.t = 1,
                    .h = 9,
                    .w = 33,
                    .c_in = 700,
                    .c_out = 3,
                    .kt = 1,
                    .kh = 3,
                    .kw = 3,
                    .stride_t = 1,
                    .stride_s = 1,
                    .pad_lo = 1,
                    .pad_hi = 1,
                    .seed = 1},
            /* No model's: wide kernels, strides that leave rests, unlike pads. */
            {.t = 5,
                    .h = 11,
                    .w = 14,
                    .c_in = 5,
                    .c_out = 6,
                    .p = 1,
                    .kt = 2,
                    .kh = 5,
                    .kw = 4,
                    .zero_frames = 1,
                    .stride_t = 3,
                    .stride_s = 3,
                    .pad_lo = 2,
                    .pad_hi = 1,
                    .add = 1,
                    .seed = 2},
            {.t = 2,
                    .h = 5,
                    .w = 6,
                    .c_in = 5,
                    .c_out = 6,
                    .kh = 4,
                    .kw = 5,
                    .stride_t = 1,
                    .stride_s = 2,
                    .pad_lo = 3,
                    .upsample = true,
                    .add = 1,
                    .gap = 8},
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        conv_case(t, &others[i]);
    /* Several tiles of positions and of outputs, whole and broken ones. */
    model_cases(t, 9, 18, 72, 130, 0);
    model_cases(t, 5, 17, 64, 256, 1);
    model_cases(t, 9, 33, 136, 12, 2);
}

static void conv_call(Stream *s, const void *context) {
    op_conv(s, context);
}

static void conv_bench_case(Test *t, const ConvCase *c) {
    if (!case_begin(t, "%" PRId64 "x%" PRId64 "x%" PRId64 " %" PRId64 "->%" PRId64 " k%d%d%d%s",
                c->t, c->h, c->w, c->c_in, c->c_out, MAX(c->kt, 1), c->kh, c->kw,
                c->upsample ? " up" : ""))
        return;
    Operands o = make_operands(t, c);
    ConvArgs a = args_of(c, &o);
    int64_t e[4];
    output_extents(c, e);
    double out = (double)view_count(o.y->view);
    double depth = (double)(c->c_in * MAX(c->kt, 1) * c->kh * c->kw);
    bench_print(t, t->shape, bench_time(t, conv_call, &a), 2 * out * depth,
            (out + (double)view_count(o.x->view)) * (double)dtype_bytes(t->act) +
                    depth * (double)c->c_out * 4);
    case_end(t);
}

static void conv_bench(Test *t) {
    static const struct {
        int64_t size, c_in, c_out;
    } causal[] = {{8, 64, 64}, {16, 64, 64}, {32, 64, 64}, {64, 32, 32}, {64, 32, 16}, {64, 16, 16},
            {64, 16, 12}, {64, 256, 256}};
    for (size_t i = 0; i < ARRAY_LEN(causal); i++)
        conv_bench_case(t, &(ConvCase){.t = 4,
                                   .h = causal[i].size,
                                   .w = causal[i].size,
                                   .c_in = causal[i].c_in,
                                   .c_out = causal[i].c_out,
                                   .p = 2,
                                   .kt = 3,
                                   .kh = 3,
                                   .kw = 3,
                                   .stride_t = 1,
                                   .stride_s = 1,
                                   .pad_lo = 1,
                                   .pad_hi = 1});
    static const ConvCase others[] = {
            {.t = 4,
                    .h = 32,
                    .w = 32,
                    .c_in = 32,
                    .c_out = 32,
                    .kh = 3,
                    .kw = 3,
                    .stride_t = 1,
                    .stride_s = 1,
                    .pad_lo = 1,
                    .pad_hi = 1,
                    .upsample = true},
            {.t = 4,
                    .h = 64,
                    .w = 64,
                    .c_in = 32,
                    .c_out = 16,
                    .kt = 1,
                    .kh = 1,
                    .kw = 1,
                    .stride_t = 1,
                    .stride_s = 1},
            {.t = 2,
                    .h = 16,
                    .w = 16,
                    .c_in = 64,
                    .c_out = 128,
                    .p = 2,
                    .kt = 3,
                    .kh = 1,
                    .kw = 1,
                    .stride_t = 1,
                    .stride_s = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        conv_bench_case(t, &others[i]);
}

const Suite suites_conv[] = {{"conv", conv_check, conv_bench}, {0}};
