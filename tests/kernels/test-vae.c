/* op_vae_norm, op_avg_down_add, op_dup_up_add, op_vae_patchify, op_vae_unpatchify. */
#include "harness.h"

#include "base/macro.h"

#include <inttypes.h>

/* The norm as in test-norm.c: half the relative error of the sum of squares, then ulps. The
 * activation's slope is below 1.13 and its own error a few ulp and |v| u of the exponent. */
static void vae_norm_case(Test *t, int64_t pixels, int64_t c, Activation act, bool in_place) {
    if (!case_begin(t, "%" PRId64 " x %" PRId64 ", act %d%s", pixels, c, act,
                in_place ? ", in place" : ""))
        return;
    Tensor *x = tensor(t, "x", in_place ? ROLE_INOUT : ROLE_IN, t->act, DENSE, 1, 1, pixels, c);
    Tensor *y = in_place ? x : tensor(t, "y", ROLE_OUT, t->act, DENSE, 1, 1, pixels, c);
    Tensor *gamma = weight(t, "gamma", WEIGHT_VECTOR, DTYPE_BF16, c);
    op_vae_norm(t->stream, y->view, x->view, gamma->view, act);
    for (int64_t i = 0; i < pixels * c; i++) {
        double square = 0;
        for (int64_t k = 0; k < c; k++)
            square += pow(x->value[i / c * c + k], 2);
        double v = x->value[i] / fmax(sqrt(square), 1e-12) * sqrt((double)c) * gamma->value[i % c];
        double error = fabs(v) * (8 + sqrt((double)c)) * U_F32;
        double want = act == ACT_SILU ? v / (1 + exp(-v)) : v;
        if (act == ACT_SILU)
            error = 1.13 * error + (6 + 4 * fabs(v)) * U_F32 * fabs(want) + t->u_mid * fabs(v);
        tensor_want(t, y, i, want, error);
    }
    case_end(t);
}

static void vae_norm_check(Test *t) {
    static const int64_t cs[] = {1, 7, 8, 9, 12, 16, 31, 32, 64, 67, 160, 1024};
    for (size_t i = 0; i < ARRAY_LEN(cs); i++) {
        vae_norm_case(t, 1, cs[i], ACT_NONE, i % 2);
        vae_norm_case(t, 9, cs[i], ACT_SILU, i % 2);
        vae_norm_case(t, 130, cs[i], i % 2 ? ACT_NONE : ACT_SILU, i % 3);
    }
}

/* A pixel whose values are all 0 must stay 0: the norm has a floor of 1e-12. */
static void vae_norm_zero_check(Test *t) {
    enum { PIXELS = 3, C = 20 };
    if (!case_begin(t, "zeros"))
        return;
    Tensor *x = tensor(t, "x", ROLE_INOUT, t->act, DENSE, 1, 1, PIXELS, C);
    Tensor *gamma = weight(t, "gamma", WEIGHT_VECTOR, DTYPE_F32, C);
    op_fill(t->stream, x->view, 0);
    op_vae_norm(t->stream, x->view, x->view, gamma->view, ACT_SILU);
    for (int64_t i = 0; i < PIXELS * C; i++)
        tensor_want(t, x, i, 0, 0);
    case_end(t);
}

static void avg_down_case(
        Test *t, const int64_t y_dim[4], int64_t c_in, int ft, int fs, int missing) {
    int64_t frames = y_dim[0] * ft - missing, h = y_dim[1] * fs, w = y_dim[2] * fs, c = y_dim[3];
    if (!case_begin(t,
                "[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "] -> %" PRId64 ", ft %d, fs %d",
                frames, h, w, c_in, c, ft, fs))
        return;
    Tensor *x = tensor(t, "x", ROLE_IN, t->act, DENSE, frames, h, w, c_in);
    Tensor *y = tensor(t, "y", ROLE_INOUT, t->act, DENSE, y_dim[0], y_dim[1], y_dim[2], c);
    op_avg_down_add(t->stream, y->view, x->view, ft, fs);
    int64_t fold = (int64_t)ft * fs * fs, group = c_in * fold / c;
    for (int64_t i = 0; i < view_count(y->view); i++) {
        int64_t o = i % c, X = i / c % y_dim[2], Y = i / c / y_dim[2] % y_dim[1];
        int64_t T = i / c / y_dim[2] / y_dim[1];
        Sum s = {0};
        sum_add(&s, y->value[i]);
        for (int64_t e = o * group; e < (o + 1) * group; e++) {
            int64_t d = e % fs, b = e / fs % fs, a = e / fs / fs % ft, channel = e / fold;
            int64_t frame = T * ft + a - missing;
            if (frame >= 0)
                sum_add(&s, x->value[((frame * h + Y * fs + b) * w + X * fs + d) * c_in + channel] /
                                    (double)group);
        }
        tensor_want(t, y, i, s.value, sum_tolerance(t, &s));
    }
    case_end(t);
}

static void avg_down_check(Test *t) {
    for (int missing = 0; missing <= 1; missing++) {
        avg_down_case(t, (const int64_t[]){2, 3, 5, 16}, 16, 1, 2, 0);
        avg_down_case(t, (const int64_t[]){1, 7, 9, 32}, 16, 2, 2, missing);
        avg_down_case(t, (const int64_t[]){3, 4, 4, 14}, 7, 2, 2, missing);
    }
    avg_down_case(t, (const int64_t[]){2, 3, 5, 64}, 64, 1, 1, 0);
    avg_down_case(t, (const int64_t[]){1, 2, 3, 9}, 9, 1, 1, 0);
    avg_down_case(t, (const int64_t[]){2, 3, 1, 18}, 2, 1, 3, 0);
    avg_down_case(t, (const int64_t[]){1, 2, 3, 4}, 3, 1, 2, 0); /* groups across channels */
}

static void dup_up_case(
        Test *t, const int64_t x_dim[4], int64_t c_out, int ft, int fs, int dropped) {
    int64_t frames = x_dim[0] * ft - dropped, h = x_dim[1] * fs, w = x_dim[2] * fs, c = x_dim[3];
    if (!case_begin(t,
                "[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "] -> %" PRId64
                ", ft %d, fs %d, %d dropped",
                x_dim[0], x_dim[1], x_dim[2], c, c_out, ft, fs, dropped))
        return;
    Tensor *x = tensor(t, "x", ROLE_IN, t->act, DENSE, x_dim[0], x_dim[1], x_dim[2], c);
    Tensor *y = tensor(t, "y", ROLE_INOUT, t->act, DENSE, frames, h, w, c_out);
    op_dup_up_add(t->stream, y->view, x->view, ft, fs);
    int64_t repeats = c_out * ft * fs * fs / c;
    for (int64_t i = 0; i < view_count(y->view); i++) {
        int64_t o = i % c_out, X = i / c_out % w, Y = i / c_out / w % h;
        int64_t T = i / c_out / w / h + dropped;
        int64_t channel = (((o * ft + T % ft) * fs + Y % fs) * fs + X % fs) / repeats;
        double from = x->value[((T / ft * x_dim[1] + Y / fs) * x_dim[2] + X / fs) * c + channel];
        tensor_want(t, y, i, y->value[i] + from, U_F32 * (fabs(y->value[i]) + fabs(from)));
    }
    case_end(t);
}

static void dup_up_check(Test *t) {
    for (int dropped = 0; dropped <= 1; dropped++) {
        dup_up_case(t, (const int64_t[]){2, 4, 4, 64}, 64, 2, 2, dropped);
        dup_up_case(t, (const int64_t[]){1, 3, 5, 7}, 7, 2, 2, dropped);
    }
    dup_up_case(t, (const int64_t[]){2, 3, 5, 64}, 32, 1, 2, 0);
    dup_up_case(t, (const int64_t[]){2, 3, 5, 18}, 9, 1, 2, 0);
    dup_up_case(t, (const int64_t[]){2, 3, 5, 9}, 9, 1, 1, 0);
    dup_up_case(t, (const int64_t[]){1, 2, 1, 8}, 1, 2, 2, 1);
    dup_up_case(t, (const int64_t[]){1, 2, 3, 12}, 9, 1, 2, 0); /* repeats across channels */
}

/* Where element (t, Y, X) of channel k * p^2 + r * p + q comes from: column r before row q. */
static int64_t pixel_index(const int64_t dim[4], int p, int64_t i) {
    int64_t c = dim[3], all = c * p * p, k = i % all / (p * p), r = i % all / p % p, q = i % p;
    int64_t X = i / all % (dim[2] / p), Y = i / all / (dim[2] / p) % (dim[1] / p);
    int64_t T = i / all / (dim[2] / p) / (dim[1] / p);
    return ((T * dim[1] + Y * p + q) * dim[2] + X * p + r) * c + k;
}

static const struct PixelShape {
    int64_t dim[4];
    int p;
} pixel_shapes[] = {
        {{1, 2, 2, 3}, 2},
        {{2, 6, 10, 3}, 2},
        {{3, 14, 18, 3}, 2},
        {{1, 5, 7, 3}, 1},
        {{2, 9, 6, 1}, 3},
        {{1, 64, 64, 3}, 2},
};

static void vae_patchify_check(Test *t) {
    for (size_t n = 0; n < ARRAY_LEN(pixel_shapes); n++) {
        const int64_t *d = pixel_shapes[n].dim;
        int p = pixel_shapes[n].p;
        if (!case_begin(t, "[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "] by %d", d[0], d[1],
                    d[2], d[3], p))
            continue;
        Tensor *x = tensor(t, "x", ROLE_IN, DTYPE_F32, DENSE, d[0], d[1], d[2], d[3]);
        Tensor *y = tensor(t, "y", ROLE_OUT, t->act, DENSE, d[0], d[1] / p, d[2] / p, d[3] * p * p);
        op_vae_patchify(t->stream, y->view, x->view, p);
        for (int64_t i = 0; i < view_count(y->view); i++)
            tensor_want(t, y, i, x->value[pixel_index(d, p, i)], 0);
        case_end(t);
    }
}

/* U8: round((v / 2 + 0.5) 255) in f32 may fall on the other side of a half; then it is 1 off. */
static void vae_unpatchify_case(Test *t, const int64_t d[4], int p, DType dtype) {
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "] by %d to %s", d[0], d[1],
                d[2], d[3], p, dtype_name(dtype)))
        return;
    Tensor *x = tensor(
            t, "x", ROLE_IN, t->act, ((Layout){0, 1.5}), d[0], d[1] / p, d[2] / p, d[3] * p * p);
    Tensor *y = tensor(t, "y", ROLE_OUT, dtype, DENSE, d[0], d[1], d[2], d[3]);
    op_vae_unpatchify(t->stream, y->view, x->view, p);
    for (int64_t i = 0; i < view_count(x->view); i++) {
        double v = fmax(-1, fmin(1, x->value[i])), scaled = (v / 2 + 0.5) * 255;
        double from_half = fabs(scaled - floor(scaled) - 0.5);
        if (dtype == DTYPE_U8)
            tensor_want(t, y, pixel_index(d, p, i), nearbyint(scaled),
                    from_half > 0 && from_half < 255 * 2 * U_F32 ? 1 : 0);
        else
            tensor_want(t, y, pixel_index(d, p, i), v, 0);
    }
    case_end(t);
}

static void vae_unpatchify_check(Test *t) {
    for (size_t n = 0; n < ARRAY_LEN(pixel_shapes); n++) {
        vae_unpatchify_case(t, pixel_shapes[n].dim, pixel_shapes[n].p, DTYPE_F32);
        vae_unpatchify_case(t, pixel_shapes[n].dim, pixel_shapes[n].p, DTYPE_U8);
    }
}

static void vae_norm_both_check(Test *t) {
    vae_norm_check(t);
    vae_norm_zero_check(t);
}

typedef struct VaeBench {
    View y, x, gamma;
} VaeBench;

static void vae_norm_call(Stream *s, const void *context) {
    const VaeBench *b = context;
    op_vae_norm(s, b->y, b->x, b->gamma, ACT_SILU);
}

static void vae_norm_bench(Test *t) {
    static const int64_t cs[] = {16, 64, 256};
    for (size_t i = 0; i < ARRAY_LEN(cs); i++) {
        if (!case_begin(t, "4x64x64x%" PRId64 " SiLU", cs[i]))
            continue;
        VaeBench b = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, 4, 64, 64, cs[i])->view,
                .y = tensor(t, "y", ROLE_OUT, t->act, DENSE, 4, 64, 64, cs[i])->view,
                .gamma = weight(t, "gamma", WEIGHT_VECTOR, DTYPE_F32, cs[i])->view};
        double n = (double)view_count(b.x);
        bench_print(t, t->shape, bench_time(t, vae_norm_call, &b), 20 * n,
                2 * n * (double)dtype_bytes(t->act));
        case_end(t);
    }
}

static void dup_up_call(Stream *s, const void *context) {
    const VaeBench *b = context;
    op_dup_up_add(s, b->y, b->x, 1, 2);
}

static void dup_up_bench(Test *t) {
    if (!case_begin(t, "4x32x32x64 -> 4x64x64x32"))
        return;
    VaeBench b = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, 4, 32, 32, 64)->view,
            .y = tensor(t, "y", ROLE_INOUT, t->act, DENSE, 4, 64, 64, 32)->view};
    double n = (double)view_count(b.y);
    bench_print(
            t, t->shape, bench_time(t, dup_up_call, &b), n, 2.5 * n * (double)dtype_bytes(t->act));
    case_end(t);
}

const Suite suites_vae[] = {
        {"vae_norm", vae_norm_both_check, vae_norm_bench},
        {"avg_down_add", avg_down_check, NULL},
        {"dup_up_add", dup_up_check, dup_up_bench},
        {"vae_patchify", vae_patchify_check, NULL},
        {"vae_unpatchify", vae_unpatchify_check, NULL},
        {0},
};
