/* op_attention. */
#include "harness.h"

#include "base/macro.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct AttentionCase {
    int64_t tq, tk, heads, head_dim, gap;
    bool rel_bias;
    double last_key_bias;
    double spread; /* of q and k: large ones make the softmax sharp */
} AttentionCase;

typedef struct Operands {
    const Tensor *q, *k, *v, *rel;
    Tensor *o;
    double scale;
} Operands;

/* One query of one head.
 *
 * Tolerance: a score is a sum of head_dim products, off by sum_tolerance(); e^score changes by as
 * much relatively, and each probability by at most twice the worst score's error, e, plus a few ulp
 * of exp; hence the output by 2 e * (sum of p |v|), which sum_tolerance() of the weighted sum adds
 * its own to (there u_mid covers the rounding of p). */
static void want_query(
        Test *t, const AttentionCase *c, const Operands *x, int64_t i, int64_t head) {
    int64_t width = c->heads * c->head_dim, at = head * c->head_dim;
    double *p = calloc((size_t)c->tk, sizeof(*p)), max = -INFINITY, total = 0, error = 0;
    assert(p);
    for (int64_t j = 0; j < c->tk; j++) {
        Sum s = {0};
        for (int64_t d = 0; d < c->head_dim; d++)
            sum_add(&s,
                    x->q->value[i * width + at + d] * x->k->value[j * width + at + d] * x->scale);
        double bias = x->rel ? x->rel->value[(j - i + c->tq - 1) * c->heads + head] : 0;
        if (j == c->tk - 1)
            bias += c->last_key_bias;
        p[j] = s.value + bias;
        error = fmax(error, sum_tolerance(t, &s) + 4 * U_F32 * (fabs(bias) + fabs(p[j])));
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < c->tk; j++)
        total += p[j] = exp(p[j] - max);
    error = 2 * error + (8 + 2 * sqrt((double)c->tk)) * U_F32;
    for (int64_t d = 0; d < c->head_dim; d++) {
        Sum s = {0};
        for (int64_t j = 0; j < c->tk; j++)
            sum_add(&s, p[j] / total * x->v->value[j * width + at + d]);
        tensor_want(
                t, x->o, i * width + at + d, s.value, sum_tolerance(t, &s) + error * s.magnitude);
    }
    free(p);
}

static void attention_case(Test *t, const AttentionCase *c) {
    int64_t width = c->heads * c->head_dim;
    if (!case_begin(t,
                "%" PRId64 " x %" PRId64 ", %" PRId64 " heads of %" PRId64 ", gap %" PRId64
                "%s, last key %g, spread %g",
                c->tq, c->tk, c->heads, c->head_dim, c->gap, c->rel_bias ? ", rel_bias" : "",
                c->last_key_bias, c->spread))
        return;
    Layout sharp = {c->gap, c->spread}, plain = {c->gap, 1};
    Operands x = {.q = tensor(t, "q", ROLE_IN, t->act, sharp, c->tq, width),
            .k = tensor(t, "k", ROLE_IN, t->act, sharp, c->tk, width),
            .v = tensor(t, "v", ROLE_IN, t->act, plain, c->tk, width),
            .o = tensor(t, "o", ROLE_OUT, t->act, plain, c->tq, width),
            .scale = (double)(1 / sqrtf((float)c->head_dim))};
    if (c->rel_bias)
        x.rel = tensor(
                t, "rel_bias", ROLE_IN, DTYPE_F32, ((Layout){0, 3}), c->tq + c->tk - 1, c->heads);
    op_attention(t->stream, &(AttentionArgs){.o = x.o->view,
                                    .q = x.q->view,
                                    .k = x.k->view,
                                    .v = x.v->view,
                                    .n_heads = c->heads,
                                    .scale = (float)x.scale,
                                    .rel_bias = x.rel ? x.rel->view : (View){0},
                                    .last_key_bias = (float)c->last_key_bias});
    for (int64_t i = 0; i < c->tq; i++)
        for (int64_t head = 0; head < c->heads; head++)
            want_query(t, c, &x, i, head);
    case_end(t);
}

/* Long enough for several tiles of keys in every kernel, with rests in both directions. */
static void attention_long_check(Test *t) {
    static const AttentionCase cases[] = {
            {.tq = 257, .tk = 1000, .heads = 2, .head_dim = 128, .spread = 1},
            {.tq = 130, .tk = 529, .heads = 1, .head_dim = 128, .gap = 8, .spread = 12},
            {.tq = 64, .tk = 528, .heads = 3, .head_dim = 128, .last_key_bias = 5.5, .spread = 1},
            {.tq = 390, .tk = 177, .heads = 1, .head_dim = 128, .last_key_bias = 3, .spread = 1},
            {.tq = 200, .tk = 700, .heads = 2, .head_dim = 64, .rel_bias = true, .spread = 1},
            {.tq = 70, .tk = 333, .heads = 1, .head_dim = 1024, .spread = 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        attention_case(t, &cases[i]);
}

static void attention_check(Test *t) {
    static const int64_t lengths[] = {1, 7, 8, 9, 31, 33, 64, 129, 300};
    static const int64_t head_dims[] = {2, 16, 24, 32, 64, 80, 128};
    int i = 0;
    for (size_t q = 0; q < ARRAY_LEN(lengths); q++)
        for (size_t k = 0; k < ARRAY_LEN(lengths); k++, i++)
            attention_case(t, &(AttentionCase){.tq = lengths[q],
                                      .tk = lengths[k],
                                      .heads = 1 + i % 3,
                                      .head_dim = head_dims[i % (int)ARRAY_LEN(head_dims)],
                                      .gap = i % 4 ? 0 : 5,
                                      .rel_bias = i % 2,
                                      .last_key_bias = i % 5 == 2 ? 6.2146 : 0,
                                      .spread = i % 6 == 5 ? 12 : 1});
    attention_case(
            t, &(AttentionCase){.tq = 33, .tk = 65, .heads = 1, .head_dim = 640, .spread = 1});
    attention_case(
            t, &(AttentionCase){.tq = 17, .tk = 40, .heads = 1, .head_dim = 1024, .spread = 1});
    attention_long_check(t);
}

static void attention_call(Stream *s, const void *context) {
    op_attention(s, context);
}

static void attention_bench_shape(
        Test *t, int64_t tq, int64_t tk, int64_t heads, int64_t head_dim) {
    int64_t width = heads * head_dim;
    if (!case_begin(t, "%" PRId64 " x %" PRId64 ", %" PRId64 " heads of %" PRId64, tq, tk, heads,
                head_dim))
        return;
    AttentionArgs a = {.q = tensor(t, "q", ROLE_IN, t->act, DENSE, tq, width)->view,
            .k = tensor(t, "k", ROLE_IN, t->act, DENSE, tk, width)->view,
            .v = tensor(t, "v", ROLE_IN, t->act, DENSE, tk, width)->view,
            .o = tensor(t, "o", ROLE_OUT, t->act, DENSE, tq, width)->view,
            .n_heads = heads,
            .scale = 1 / sqrtf((float)head_dim)};
    bench_print(t, t->shape, bench_time(t, attention_call, &a), 4.0 * (double)(tq * tk * width),
            2.0 * (double)((tq + tk) * width) * (double)dtype_bytes(t->act));
    case_end(t);
}

static void attention_bench(Test *t) {
    attention_bench_shape(t, 80, 80, 5, 32);
    attention_bench_shape(t, 80, 12, 5, 32);
    attention_bench_shape(t, 64, 64, 1, 64);
    attention_bench_shape(t, 1024, 1024, 4, 128);
}

const Suite suites_attention[] = {{"attention", attention_check, attention_bench}, {0}};
