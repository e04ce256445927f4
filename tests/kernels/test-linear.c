/* op_linear, op_geglu, op_act, op_gather_rows. */
#include "harness.h"

#include "base/macro.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static double silu(double x) {
    return x / (1 + exp(-x));
}

/* 0.5 x (1 + tanh u), with (1 + tanh u) / 2 = e^2u / (1 + e^2u), which keeps its digits where tanh
 * u is near -1. */
static double gelu_tanh(double x) {
    double e = exp(2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    return isinf(e) ? x : x * e / (1 + e);
}

static double activation(double x, Activation act) {
    return act == ACT_SILU ? silu(x) : act == ACT_GELU_TANH ? gelu_tanh(x) : x;
}

/* Of the activation of an exact x, as x / (1 + e^-z). e^z in f32 is off by |z| u from z's rounding
 * and a few ulp; gelu's z is 2 sqrt(2/pi) (x + 0.044715 x^3) after four roundings. Past z = 88.7
 * e^z is infinite and the result 0, where it should be up to 88.7 / 2^128 = 2.61e-37. A device with
 * a narrower activation may use its approximate tanh, off by u_mid of 1, hence x u_mid. */
static double activation_tolerance(const Test *t, double x, Activation act) {
    double z = act == ACT_GELU_TANH ? 1.6 * (fabs(x) + 0.044715 * fabs(x * x * x)) : fabs(x);
    if (act == ACT_NONE)
        return 0;
    return (6 + 4 * z) * U_F32 * fabs(activation(x, act)) + 2.61e-37 + t->u_mid * fabs(x);
}

/* What a tolerance on x becomes after the activation, whose slope is below 1.13. */
static double through(Activation act, double tolerance) {
    return act == ACT_NONE ? tolerance : 1.13 * tolerance;
}

typedef struct LinearCase {
    int64_t m, n, k;
    DType x, y, w;
    bool bias;
    Activation act;
    int64_t gap;
    bool hurried;
} LinearCase;

static void linear_case(Test *t, const LinearCase *c) {
    if (!case_begin(t,
                "[%" PRId64 ",%" PRId64 "] k %" PRId64 " %s x %s -> %s, %s, act %d, gap %" PRId64
                "%s",
                c->m, c->n, c->k, dtype_name(c->x), dtype_name(c->w), dtype_name(c->y),
                c->bias ? "bias" : "no bias", c->act, c->gap, c->hurried ? ", hurried" : ""))
        return;
    stream_hurry(t->stream, c->hurried);
    Tensor *x = tensor(t, "x", ROLE_IN, c->x, ((Layout){.gap = c->gap}), c->m, c->k);
    Tensor *w = weight(t, "w", WEIGHT_MATRIX, c->w, c->n, c->k);
    Tensor *bias = c->bias ? weight(t, "bias", WEIGHT_VECTOR, c->w, c->n) : NULL;
    Tensor *y = tensor(t, "y", ROLE_OUT, c->y, ((Layout){.gap = c->gap}), c->m, c->n);
    op_linear(t->stream, y->view, x->view, w->view, bias ? bias->view : (View){0}, c->act);
    for (int64_t i = 0; i < c->m; i++)
        for (int64_t j = 0; j < c->n; j++) {
            Sum s = {0};
            for (int64_t q = 0; q < c->k; q++)
                sum_add(&s, x->value[i * c->k + q] * w->value[j * c->k + q]);
            if (bias)
                sum_add(&s, bias->value[j]);
            tensor_want(t, y, i * c->n + j, activation(s.value, c->act),
                    through(c->act, sum_tolerance(t, &s)) +
                            activation_tolerance(t, s.value, c->act));
        }
    case_end(t);
}

static void linear_cases(Test *t, bool hurried) {
    static const int64_t ms[] = {1, 7, 8, 9, 67, 130}, ns[] = {1, 8, 9, 31, 160, 257},
                         ks[] = {1, 7, 8, 64, 67, 160, 1100};
    static const DType weights[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    int i = 0;
    for (size_t m = 0; m < ARRAY_LEN(ms); m++)
        for (size_t n = 0; n < ARRAY_LEN(ns); n++)
            for (size_t k = 0; k < ARRAY_LEN(ks); k++, i++)
                linear_case(t, &(LinearCase){.m = ms[m],
                                       .n = ns[n],
                                       .k = ks[k],
                                       .x = i % 4 == 3 ? DTYPE_F32 : t->act,
                                       .y = i % 5 == 3 ? DTYPE_F32 : t->act,
                                       .w = weights[i % 3],
                                       .bias = i % 2,
                                       .act = (Activation)(i / 2 % 3),
                                       .gap = i % 7 < 3 ? 0 : i % 7,
                                       .hurried = hurried});
    linear_case(
            t, &(LinearCase){600, 130, 96, t->act, t->act, DTYPE_BF16, true, ACT_NONE, 0, hurried});
    linear_case(t, &(LinearCase){33, 700, 2100, t->act, DTYPE_F32, DTYPE_BF16, true, ACT_NONE, 8,
                           hurried});
}

static void linear_check(Test *t) {
    linear_cases(t, false);
    if (t->act == DTYPE_F32)
        return; /* only a device with narrower products has other kernels for those in a hurry */
    linear_cases(t, true);
    /* Tiles of 256 columns, several bands of rows. */
    linear_case(
            t, &(LinearCase){2200, 2048, 96, t->act, t->act, DTYPE_BF16, true, ACT_NONE, 0, true});
}

static void elementwise_case(Test *t, Activation act, int64_t n, bool in_place, double spread) {
    if (!case_begin(t, "%" PRId64 " elements, act %d, up to %g%s", n, act, spread,
                in_place ? ", in place" : ""))
        return;
    DType dtype = n % 2 ? DTYPE_F32 : t->act;
    Tensor *x = tensor(t, "x", in_place ? ROLE_INOUT : ROLE_IN, dtype, ((Layout){0, spread}), n);
    Tensor *y = in_place ? x : tensor(t, "y", ROLE_OUT, dtype, DENSE, n);
    op_act(t->stream, y->view, x->view, act);
    for (int64_t i = 0; i < n; i++)
        tensor_want(
                t, y, i, activation(x->value[i], act), activation_tolerance(t, x->value[i], act));
    case_end(t);
}

/* What is no number stays none; the ends keep their sign and lose nothing to a NaN. */
static void act_special_case(Test *t, Activation act) {
    static const float values[] = {NAN, INFINITY, -NAN, 0.0f, 3e38f, -1e9f, 1e-30f, -1e-30f};
    enum { N = 67 }; /* whole vectors and a rest */
    if (!case_begin(t, "special values, act %d", act))
        return;
    Tensor *x = tensor(t, "x", ROLE_INOUT, DTYPE_F32, DENSE, N);
    for (int64_t i = 0; i < N; i++)
        op_fill(t->stream, view_rows(x->view, i, 1), values[i % (int)ARRAY_LEN(values)]);
    op_act(t->stream, x->view, x->view, act);
    for (int64_t i = 0; i < N; i++) {
        double v = (double)values[i % (int)ARRAY_LEN(values)];
        double want = v > 1e9 ? v : activation(v, act);
        tensor_want(t, x, i, want, isfinite(v) && v < 1e9 ? activation_tolerance(t, v, act) : 0);
    }
    case_end(t);
}

static void act_check(Test *t) {
    static const int64_t ns[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 4096, 4099, 20011};
    static const double spreads[] = {1, 12, 150};
    for (int act = ACT_NONE; act <= ACT_GELU_TANH; act++) {
        act_special_case(t, (Activation)act);
        for (size_t i = 0; i < ARRAY_LEN(ns); i++)
            for (size_t k = 0; k < ARRAY_LEN(spreads); k++)
                elementwise_case(t, (Activation)act, ns[i], k % 2, spreads[k]);
    }
}

static void geglu_case(Test *t, int64_t m, int64_t n, int alias) {
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 "], y is %s", m, n,
                alias == 1   ? "gate"
                : alias == 2 ? "up"
                             : "apart"))
        return;
    Tensor *gate =
            tensor(t, "gate", alias == 1 ? ROLE_INOUT : ROLE_IN, t->act, ((Layout){0, 6}), m, n);
    Tensor *up = tensor(t, "up", alias == 2 ? ROLE_INOUT : ROLE_IN, t->act, DENSE, m, n);
    Tensor *y = alias == 1 ? gate : alias == 2 ? up : tensor(t, "y", ROLE_OUT, t->act, DENSE, m, n);
    op_geglu(t->stream, y->view, gate->view, up->view);
    for (int64_t i = 0; i < m * n; i++) {
        double g = gate->value[i], u = up->value[i], want = gelu_tanh(g) * u;
        tensor_want(t, y, i, want,
                activation_tolerance(t, g, ACT_GELU_TANH) * fabs(u) + 2 * U_F32 * fabs(want));
    }
    case_end(t);
}

static void geglu_check(Test *t) {
    static const int64_t ns[] = {1, 7, 8, 9, 17, 128, 1031};
    for (size_t i = 0; i < ARRAY_LEN(ns); i++)
        for (int alias = 0; alias < 3; alias++)
            geglu_case(t, 1 + (int64_t)i * 3, ns[i], alias);
}

static void gather_case(Test *t, int64_t m, int64_t dim, DType dtype) {
    enum { ROWS = 37 };
    if (!case_begin(t, "%" PRId64 " of %d rows of %" PRId64 " %s", m, ROWS, dim, dtype_name(dtype)))
        return;
    Tensor *table = weight(t, "table", WEIGHT_TABLE, dtype, ROWS, dim);
    Tensor *y = tensor(t, "y", ROLE_OUT, m % 2 ? DTYPE_F32 : t->act, DENSE, m, dim);
    int32_t *ids = calloc((size_t)m, sizeof(*ids));
    assert(ids);
    for (int64_t i = 0; i < m; i++)
        ids[i] = i == 0 ? ROWS - 1 : (int32_t)random_index(t, ROWS);
    op_gather_rows(t->stream, y->view, table->view, ids);
    for (int64_t i = 0; i < m * dim; i++)
        tensor_want(t, y, i, table->value[ids[i / dim] * dim + i % dim], 0);
    free(ids);
    case_end(t);
}

static void gather_check(Test *t) {
    static const int64_t dims[] = {1, 7, 8, 9, 64, 257};
    for (size_t i = 0; i < ARRAY_LEN(dims); i++) {
        gather_case(t, 1, dims[i], DTYPE_F32);
        gather_case(t, 8, dims[i], DTYPE_BF16);
        gather_case(t, 31, dims[i], DTYPE_F16);
    }
}

typedef struct LinearBench {
    View y, x, w, bias;
} LinearBench;

static void linear_call(Stream *s, const void *context) {
    const LinearBench *b = context;
    op_linear(s, b->y, b->x, b->w, b->bias, ACT_NONE);
}

static void linear_bench_shape(Test *t, int64_t m, int64_t n, int64_t k, DType dtype) {
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 "] k %" PRId64 " %s", m, n, k, dtype_name(dtype)))
        return;
    LinearBench b = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, m, k)->view,
            .w = weight(t, "w", WEIGHT_MATRIX, dtype, n, k)->view,
            .bias = weight(t, "bias", WEIGHT_VECTOR, DTYPE_F32, n)->view,
            .y = tensor(t, "y", ROLE_OUT, t->act, DENSE, m, n)->view};
    double act = (double)dtype_bytes(t->act);
    bench_print(t, t->shape, bench_time(t, linear_call, &b), 2.0 * (double)(m * n * k),
            (double)(m * (n + k)) * act + (double)(n * k) * (double)dtype_bytes(dtype));
    case_end(t);
}

static void linear_bench(Test *t) {
    linear_bench_shape(t, 80, 160, 160, DTYPE_BF16);
    linear_bench_shape(t, 80, 640, 160, DTYPE_BF16);
    linear_bench_shape(t, 80, 160, 640, DTYPE_BF16);
    linear_bench_shape(t, 1, 960, 160, DTYPE_BF16);
    linear_bench_shape(t, 1024, 1024, 1024, DTYPE_F32);
    linear_bench_shape(t, 1024, 1024, 1024, DTYPE_BF16);
}

const Suite suites_linear[] = {
        {"linear", linear_check, linear_bench},
        {"act", act_check, NULL},
        {"geglu", geglu_check, NULL},
        {"gather_rows", gather_check, NULL},
        {0},
};
