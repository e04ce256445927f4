/* op_rms_norm, op_layer_norm, op_norm_modulate, op_norm_rope.
 *
 * Tolerance: mean and variance are sums of n terms in f32, off by (8 + 2 sqrt n) u of their
 * magnitudes, see Sum; 1 / sqrt halves the variance's relative error; each factor and addend after
 * it costs an ulp of its own magnitude. */
#include "harness.h"

#include "base/macro.h"

#include <inttypes.h>
#include <stdlib.h>

enum { RMS, LAYER, LAYER_PLAIN, MODULATE };

typedef struct NormCase {
    int kind;
    int64_t m, n;
    DType x, y;
    int64_t gap;
    bool in_place;
} NormCase;

typedef struct RowStats {
    double mean, inverse; /* 1 / sqrt(mean square or variance + eps) */
    double relative;      /* error of inverse, relative */
    double mean_error;
} RowStats;

static RowStats row_stats(const double *x, int64_t n, double eps, bool centred) {
    double mean = 0, magnitude = 0, square = 0;
    for (int64_t i = 0; centred && i < n; i++) {
        mean += x[i] / (double)n;
        magnitude += fabs(x[i]) / (double)n;
    }
    for (int64_t i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean) / (double)n;
    double sum_error = (8 + 2 * sqrt((double)n)) * U_F32;
    RowStats r = {
            .mean = mean, .inverse = 1 / sqrt(square + eps), .mean_error = sum_error * magnitude};
    /* Squares of x - mean, with the mean off by d: 2 d (x - mean) sums to about 0, d^2 stays, and
     * so do the roundings of x - mean, u of the larger of the two. */
    double deviation = U_F32 * (magnitude + fabs(mean));
    double variance_error = sum_error * square + r.mean_error * r.mean_error +
                            2 * deviation * sqrt(square) + deviation * deviation;
    r.relative = 0.5 * variance_error / (square + eps) + 4 * U_F32;
    return r;
}

/* The normalised value, and how far it may be off. */
static double normalised(const RowStats *r, double x, double *ret_error) {
    double value = (x - r->mean) * r->inverse;
    *ret_error = (r->mean_error + U_F32 * (fabs(x) + fabs(r->mean))) * r->inverse +
                 fabs(value) * (r->relative + 2 * U_F32);
    return value;
}

static void norm_case(Test *t, const NormCase *c) {
    static const char *const names[] = {"rms", "layer", "layer, no weights", "modulate"};
    const double eps = 1e-6;
    if (!case_begin(t, "%s [%" PRId64 ",%" PRId64 "] %s -> %s, gap %" PRId64 "%s", names[c->kind],
                c->m, c->n, dtype_name(c->x), dtype_name(c->y), c->gap,
                c->in_place ? ", in place" : ""))
        return;
    Layout layout = {.gap = c->gap};
    Tensor *x = tensor(t, "x", c->in_place ? ROLE_INOUT : ROLE_IN, c->x, layout, c->m, c->n);
    Tensor *y = c->in_place ? x : tensor(t, "y", ROLE_OUT, c->y, layout, c->m, c->n);
    Tensor *w = weight(t, "w", WEIGHT_VECTOR, DTYPE_BF16, c->n);
    Tensor *bias = weight(t, "bias", WEIGHT_VECTOR, DTYPE_F32, c->n);
    if (c->kind == RMS)
        op_rms_norm(t->stream, y->view, x->view, w->view, (float)eps);
    else if (c->kind == LAYER)
        op_layer_norm(t->stream, y->view, x->view, w->view, bias->view, (float)eps);
    else if (c->kind == LAYER_PLAIN)
        op_layer_norm(t->stream, y->view, x->view, (View){0}, (View){0}, (float)eps);
    else
        op_norm_modulate(t->stream, y->view, x->view, bias->view, w->view, (float)eps);
    for (int64_t i = 0; i < c->m * c->n; i++) {
        int64_t k = i % c->n;
        RowStats r = row_stats(x->value + i - k, c->n, (double)(float)eps, c->kind != RMS);
        double error, v = normalised(&r, x->value[i], &error);
        double scale = c->kind == LAYER_PLAIN ? 1
                       : c->kind == MODULATE  ? 1 + w->value[k]
                                              : w->value[k];
        double shift = c->kind == LAYER || c->kind == MODULATE ? bias->value[k] : 0;
        double magnitude = fabs(v) * (c->kind == MODULATE ? 1 + fabs(w->value[k]) : fabs(scale));
        tensor_want(t, y, i, v * scale + shift,
                error * fabs(scale) + 3 * U_F32 * (magnitude + fabs(shift)));
    }
    case_end(t);
}

static void norm_check(Test *t, int kind) {
    static const int64_t ns[] = {1, 7, 8, 9, 31, 64, 67, 160, 257, 1031}, ms[] = {1, 7, 64};
    int i = kind;
    for (size_t m = 0; m < ARRAY_LEN(ms); m++)
        for (size_t n = 0; n < ARRAY_LEN(ns); n++, i++) {
            /* The variance of one value is 0 and its normal form what the rounding leaves. */
            if (ns[n] == 1 && kind != RMS)
                continue;
            NormCase c = {.kind = kind, .m = ms[m], .n = ns[n], .gap = i % 3};
            c.x = i % 4 < 2 ? t->act : DTYPE_F32;
            c.in_place = i % 5 == 0;
            c.y = c.in_place ? c.x : i % 4 == 1 ? DTYPE_F32 : t->act;
            norm_case(t, &c);
        }
}

static void rms_check(Test *t) {
    norm_check(t, RMS);
}

static void layer_check(Test *t) {
    norm_check(t, LAYER);
    norm_check(t, LAYER_PLAIN);
}

static void modulate_check(Test *t) {
    norm_check(t, MODULATE);
}

static void rope_case(Test *t, int64_t m, int64_t heads, int64_t head_dim, int variant) {
    bool in_place = variant % 2, turn = variant / 2 % 2;
    int64_t n = heads * head_dim;
    const double eps = 1e-6;
    if (!case_begin(t, "%" PRId64 " x %" PRId64 " heads of %" PRId64 "%s%s", m, heads, head_dim,
                turn ? "" : ", norm alone", in_place ? ", in place" : ""))
        return;
    Layout layout = {.gap = variant * 3};
    Tensor *x = tensor(t, "x", in_place ? ROLE_INOUT : ROLE_IN, t->act, layout, m, n);
    Tensor *y = in_place ? x : tensor(t, "y", ROLE_OUT, t->act, layout, m, n);
    Tensor *w = weight(t, "w", WEIGHT_VECTOR, DTYPE_BF16, n);
    Tensor *rope = tensor(t, "rope", ROLE_IN, DTYPE_F32, DENSE, m, head_dim / 2, 2);
    op_norm_rope(
            t->stream, y->view, x->view, w->view, turn ? rope->view : (View){0}, heads, (float)eps);
    double *v = calloc((size_t)n, sizeof(*v)), *error = calloc((size_t)n, sizeof(*error));
    assert(v && error);
    for (int64_t i = 0; i < m; i++) {
        RowStats r = row_stats(x->value + i * n, n, (double)(float)eps, false);
        for (int64_t k = 0; k < n; k++) {
            v[k] = normalised(&r, x->value[i * n + k], &error[k]) * w->value[k];
            error[k] = error[k] * fabs(w->value[k]) + 2 * U_F32 * fabs(v[k]);
        }
        for (int64_t k = 0; k < n; k++) {
            const double *turned = rope->value + i * head_dim + k % head_dim / 2 * 2;
            double c = turn ? turned[0] : 1, s = turn ? turned[1] : 0;
            double a = v[k], b = k % 2 ? v[k - 1] : -v[k + 1];
            double slack = error[k] * fabs(c) + error[k ^ 1] * fabs(s) +
                           3 * U_F32 * (fabs(a * c) + fabs(b * s));
            tensor_want(t, y, i * n + k, a * c + b * s, slack);
        }
    }
    free(v);
    free(error);
    case_end(t);
}

static void rope_check(Test *t) {
    static const int64_t head_dims[] = {2, 6, 16, 22, 32, 128};
    for (size_t i = 0; i < ARRAY_LEN(head_dims); i++)
        for (int variant = 0; variant < 4; variant++) {
            rope_case(t, 1, 1, head_dims[i], variant);
            rope_case(t, 9, 5, head_dims[i], variant);
        }
}

typedef struct NormBench {
    View y, x, w, bias, rope;
} NormBench;

static void modulate_call(Stream *s, const void *context) {
    const NormBench *b = context;
    op_norm_modulate(s, b->y, b->x, b->bias, b->w, 1e-6f);
}

static void rope_call(Stream *s, const void *context) {
    const NormBench *b = context;
    op_norm_rope(s, b->y, b->x, b->w, b->rope, b->x.dim[1] / b->rope.dim[1] / 2, 1e-6f);
}

static void norm_bench(Test *t, int64_t m, int64_t n, BenchCall *call) {
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 "]", m, n))
        return;
    NormBench b = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, m, n)->view,
            .y = tensor(t, "y", ROLE_OUT, t->act, DENSE, m, n)->view,
            .w = weight(t, "w", WEIGHT_VECTOR, DTYPE_F32, n)->view,
            .bias = weight(t, "bias", WEIGHT_VECTOR, DTYPE_F32, n)->view,
            .rope = tensor(t, "rope", ROLE_IN, DTYPE_F32, DENSE, m, 16, 2)->view};
    bench_print(t, t->shape, bench_time(t, call, &b), 8.0 * (double)(m * n),
            2.0 * (double)(m * n) * (double)dtype_bytes(t->act));
    case_end(t);
}

static void modulate_bench(Test *t) {
    norm_bench(t, 80, 160, modulate_call);
    norm_bench(t, 4096, 1024, modulate_call);
}

static void rope_bench(Test *t) {
    norm_bench(t, 80, 160, rope_call);
    norm_bench(t, 4096, 1024, rope_call);
}

const Suite suites_norm[] = {
        {"rms_norm", rms_check, NULL},
        {"layer_norm", layer_check, NULL},
        {"norm_modulate", modulate_check, modulate_bench},
        {"norm_rope", rope_check, rope_bench},
        {0},
};
