#include "model/umt5.h"

#include "backend/ops.h"
#include "base/cleanup.h"
#include "base/macro.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct T5Block {
    WeightGroup *group;
    View norm1_w;       /* [dim] */
    View q_w, k_w, v_w; /* [inner, dim] */
    View o_w;           /* [dim, inner] */
    View bias_table;    /* [n_buckets, n_heads], host */
    View norm2_w;       /* [dim] */
    View gate_w, up_w;  /* [ffn, dim] */
    View down_w;        /* [dim, ffn] */
} T5Block;

/* What stands outside the blocks; the embedding stays in host memory. */
typedef struct T5Ends {
    WeightGroup *first, *last;
    View embedding; /* [vocab, dim] */
    View norm_w;    /* [dim] */
} T5Ends;

struct Umt5 {
    T5Dims dims;
    Weights *weights;
    T5Ends ends;
    T5Block *blocks;
};

#define D(member) WEIGHT_DIM(T5Dims, member)
#define VECTOR(name, member, ...)                                                                  \
    { WEIGHT(name, T5Block, member, WEIGHT_VECTOR, __VA_ARGS__) }
#define MATRIX(name, member, ...)                                                                  \
    { WEIGHT(name, T5Block, member, WEIGHT_MATRIX, __VA_ARGS__) }
#define TABLE(name, member, ...)                                                                   \
    { WEIGHT(name, T5Block, member, WEIGHT_TABLE, __VA_ARGS__) }

/* clang-format off */
static const WeightSpec block_spec[] = {
    VECTOR("layer.0.layer_norm.weight", norm1_w, D(dim)),
    MATRIX("layer.0.SelfAttention.q.weight", q_w, D(inner), D(dim)),
    MATRIX("layer.0.SelfAttention.k.weight", k_w, D(inner), D(dim)),
    MATRIX("layer.0.SelfAttention.v.weight", v_w, D(inner), D(dim)),
    MATRIX("layer.0.SelfAttention.o.weight", o_w, D(dim), D(inner)),
    TABLE("layer.0.SelfAttention.relative_attention_bias.weight", bias_table, D(n_buckets), D(n_heads)),
    VECTOR("layer.1.layer_norm.weight", norm2_w, D(dim)),
    MATRIX("layer.1.DenseReluDense.wi_0.weight", gate_w, D(ffn), D(dim)),
    MATRIX("layer.1.DenseReluDense.wi_1.weight", up_w, D(ffn), D(dim)),
    MATRIX("layer.1.DenseReluDense.wo.weight", down_w, D(dim), D(ffn)),
};
static const WeightSpec first_spec[] = {
    {WEIGHT("shared.weight", T5Ends, embedding, WEIGHT_TABLE, D(vocab), D(dim)),
        .alias = "encoder.embed_tokens.weight"},
};
static const WeightSpec last_spec[] = {
    {WEIGHT("encoder.final_layer_norm.weight", T5Ends, norm_w, WEIGHT_VECTOR, D(dim))},
};
/* clang-format on */

static int bind_block(Umt5 *m, int64_t i, Err *err) {
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), "encoder.block.%" PRId64 ".", i);
    T5Block *b = &m->blocks[i];
    int r = weights_add_group(m->weights, prefix, &b->group, err);
    return r < 0 ? r
                 : weights_bind(
                           b->group, block_spec, ARRAY_LEN(block_spec), prefix, b, &m->dims, err);
}

static int bind_all(Umt5 *m, Err *err) {
    int r = weights_add_group(m->weights, "embedding", &m->ends.first, err);
    if (r == 0)
        r = weights_bind(
                m->ends.first, first_spec, ARRAY_LEN(first_spec), "", &m->ends, &m->dims, err);
    for (int64_t i = 0; r == 0 && i < m->dims.n_layers; i++)
        r = bind_block(m, i, err);
    if (r == 0)
        r = weights_add_group(m->weights, "final norm", &m->ends.last, err);
    if (r == 0)
        r = weights_bind(
                m->ends.last, last_spec, ARRAY_LEN(last_spec), "", &m->ends, &m->dims, err);
    return r;
}

DEFINE_CLEANUP(Umt5, umt5_free)

int umt5_new(Checkpoint *c, const T5Dims *dims, Umt5 **ret, Err *err) {
    _cleanup_(umt5_freep) Umt5 *m = calloc(1, sizeof(*m));
    if (!m || !(m->blocks = calloc((size_t)dims->n_layers, sizeof(*m->blocks))))
        return err_set(err, -ENOMEM, "no memory for the text encoder");
    m->dims = *dims;
    int r = weights_new(c, "text_encoder", &m->weights, err);
    if (r == 0)
        r = bind_all(m, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

Umt5 *umt5_free(Umt5 *m) {
    if (!m)
        return NULL;
    weights_free(m->weights);
    free(m->blocks);
    free(m);
    return NULL;
}

Weights *umt5_weights(const Umt5 *m) {
    return m->weights;
}

/* Half of the buckets serve keys behind the query, half those before it. Of each half, the first
 * half is one bucket a distance, the rest grows by equal ratios up to max_distance. The reference
 * takes logarithms; where a limit is an integer (16, 32 and 64 of 128) their rounding must not
 * decide, hence the small addition: no other distance is so close below a limit. */
int32_t umt5_bucket(const T5Dims *dims, int64_t key_minus_query) {
    int64_t half = dims->n_buckets / 2, exact = half / 2;
    int64_t offset = key_minus_query > 0 ? half : 0;
    int64_t n = key_minus_query < 0 ? -key_minus_query : key_minus_query;
    if (n < exact)
        return (int32_t)(offset + n);
    double ratio = log((double)n / (double)exact) / log((double)dims->max_distance / (double)exact);
    int64_t step = (int64_t)(ratio * (double)(half - exact) + 1e-9);
    return (int32_t)(offset + MIN(half - 1, exact + step));
}

/* Row r of rel_bias [2 n - 1, heads] is for keys r - n + 1 after their query. */
static View rel_bias(Stream *s, const Umt5 *m, const T5Block *w, int64_t n) {
    int32_t bucket[2 * TEXT_ROWS - 1];
    for (int64_t r = 0; r < 2 * n - 1; r++)
        bucket[r] = umt5_bucket(&m->dims, r - n + 1);
    View bias = stream_temp(s, DTYPE_F32, 2 * n - 1, m->dims.n_heads);
    op_gather_rows(s, bias, w->bias_table, bucket);
    return bias;
}

/* x += attention(rms(x)); scores are not scaled. */
static void attend(Stream *s, const Umt5 *m, const T5Block *w, View x) {
    DType act = backend_info(stream_backend(s))->activation;
    int64_t n = x.dim[0], inner = m->dims.inner;
    size_t mark = stream_mark(s);
    View a = stream_temp(s, act, n, m->dims.dim), h = stream_temp(s, DTYPE_F32, n, m->dims.dim);
    View q = stream_temp(s, act, n, inner), k = stream_temp(s, act, n, inner);
    View v = stream_temp(s, act, n, inner), o = stream_temp(s, act, n, inner);

    op_rms_norm(s, a, x, w->norm1_w, (float)m->dims.eps);
    op_linear(s, q, a, w->q_w, (View){0}, ACT_NONE);
    op_linear(s, k, a, w->k_w, (View){0}, ACT_NONE);
    op_linear(s, v, a, w->v_w, (View){0}, ACT_NONE);
    op_attention(s, &(AttentionArgs){
                            .o = o,
                            .q = q,
                            .k = k,
                            .v = v,
                            .n_heads = m->dims.n_heads,
                            .scale = 1,
                            .rel_bias = rel_bias(s, m, w, n),
                    });
    op_linear(s, h, o, w->o_w, (View){0}, ACT_NONE);
    op_add(s, x, h);
    stream_release(s, mark);
}

/* x += down(gelu(gate(n)) * up(n)), n = rms(x). */
static void feed_forward(Stream *s, const Umt5 *m, const T5Block *w, View x) {
    DType act = backend_info(stream_backend(s))->activation;
    int64_t n = x.dim[0];
    size_t mark = stream_mark(s);
    View a = stream_temp(s, act, n, m->dims.dim), h = stream_temp(s, DTYPE_F32, n, m->dims.dim);
    View gate = stream_temp(s, act, n, m->dims.ffn), up = stream_temp(s, act, n, m->dims.ffn);

    op_rms_norm(s, a, x, w->norm2_w, (float)m->dims.eps);
    op_linear(s, gate, a, w->gate_w, (View){0}, ACT_NONE);
    op_linear(s, up, a, w->up_w, (View){0}, ACT_NONE);
    op_geglu(s, gate, gate, up);
    op_linear(s, h, gate, w->down_w, (View){0}, ACT_NONE);
    op_add(s, x, h);
    stream_release(s, mark);
}

static bool ids_fit(Stream *s, const Umt5 *m, const int32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->dims.vocab) {
            stream_fail(s, -EINVAL,
                    "token %" PRId64 " has id %" PRId32 ", the text encoder has %" PRId64 " rows",
                    i, ids[i], m->dims.vocab);
            return false;
        }
    return true;
}

void umt5_encode(Stream *s, Umt5 *m, View y, const int32_t *ids, const Observer *observer) {
    int64_t n = y.dim[0];
    assert(y.rank == 2 && n >= 1 && n <= TEXT_ROWS && y.dim[1] == m->dims.dim);
    if (!ids_fit(s, m, ids, n))
        return;
    size_t mark = stream_mark(s);
    View x = stream_temp(s, DTYPE_F32, n, m->dims.dim);
    weights_need(m->ends.first, s);
    op_gather_rows(s, x, m->ends.embedding, ids);
    for (int64_t i = 0; i < m->dims.n_layers; i++) {
        observer_see(observer, s, "t5.hidden", i, x);
        weights_need(m->blocks[i].group, s);
        attend(s, m, &m->blocks[i], x);
        feed_forward(s, m, &m->blocks[i], x);
    }
    weights_need(m->ends.last, s);
    op_rms_norm(s, y, x, m->ends.norm_w, (float)m->dims.eps);
    observer_see(observer, s, "t5.hidden", m->dims.n_layers, y);
    stream_release(s, mark);
}
