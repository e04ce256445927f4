#include "backend/cpu/cpu-impl.h"

#include <math.h>
#include <string.h>

/* One item is a head and up to LANES queries. Queries stand side by side: scores [keys][lanes] =
 * K Q^T and output [head_dim][lanes] = V^T P^T read keys and values where they are, and the
 * softmax needs no sum across a vector. Keys come in tiles of KEYS. */
enum { LANES = 2 * MMA_BLOCK, KEYS = 128 };

typedef struct AttentionJob {
    CpuBackend *b;
    const AttentionArgs *a;
    int64_t head_dim, query_tiles;
} AttentionJob;

/* What one item keeps in its thread's scratch. */
typedef struct Tile {
    float *q;                  /* [head_dim][lanes], times scale; unused lanes are 0 */
    float *o;                  /* [head_dim][lanes], not yet divided by sum */
    float *scores;             /* [KEYS][lanes] */
    float *max, *sum, *factor; /* [lanes] */
    int64_t head, query, n_queries;
    int64_t lanes; /* n_queries in whole blocks */
} Tile;

static size_t tile_floats(int64_t head_dim) {
    return (size_t)(2 * head_dim + KEYS + 3) * LANES;
}

static Tile tile_init(const AttentionJob *j, float *scratch, int64_t item) {
    Tile t = {.head = item / j->query_tiles, .query = item % j->query_tiles * LANES};
    t.n_queries = MIN((int64_t)LANES, j->a->q.dim[0] - t.query);
    t.lanes = (t.n_queries + MMA_BLOCK - 1) / MMA_BLOCK * MMA_BLOCK;
    int64_t wide = j->head_dim * t.lanes;
    t.q = scratch;
    t.o = t.q + wide;
    t.scores = t.o + wide;
    t.max = t.scores + KEYS * t.lanes;
    t.sum = t.max + t.lanes;
    t.factor = t.sum + t.lanes;

    memset(t.q, 0, (size_t)wide * 2 * sizeof(float)); /* q and o */
    for (int64_t i = 0; i < t.n_queries; i++) {
        const float *q =
                view_f32(j->a->q) + (t.query + i) * j->a->q.stride[0] + t.head * j->head_dim;
        for (int64_t d = 0; d < j->head_dim; d++)
            t.q[d * t.lanes + i] = q[d] * j->a->scale;
    }
    for (int64_t i = 0; i < t.lanes; i++) {
        t.max[i] = -INFINITY;
        t.sum[i] = 0;
    }
    return t;
}

static void add_biases(const AttentionJob *j, const Tile *t, int64_t key, int64_t n_keys) {
    const AttentionArgs *a = j->a;
    int64_t tq = a->q.dim[0], tk = a->k.dim[0];
    for (int64_t k = 0; !view_is_null(a->rel_bias) && k < n_keys; k++) {
        int64_t row = key + k - t->query + tq - 1;
        for (int64_t i = 0; i < t->n_queries; i++)
            t->scores[k * t->lanes + i] += view_f32(a->rel_bias)[(row - i) * a->n_heads + t->head];
    }
    for (int64_t i = 0; key + n_keys == tk && i < t->n_queries; i++)
        t->scores[(n_keys - 1) * t->lanes + i] += a->last_key_bias;
}

static void attend_keys(const AttentionJob *j, const Tile *t, int64_t key, int64_t n_keys) {
    const AttentionArgs *a = j->a;
    const float *k = view_f32(a->k) + key * a->k.stride[0] + t->head * j->head_dim;
    const float *v = view_f32(a->v) + key * a->v.stride[0] + t->head * j->head_dim;
    j->b->kernels->mma(&(Mma){.c = t->scores,
            .c_row = t->lanes,
            .a = &k,
            .n_parts = 1,
            .k = j->head_dim,
            .a_row = a->k.stride[0],
            .a_col = 1,
            .b = t->q,
            .b_row = t->lanes,
            .b_block = MMA_BLOCK,
            .rows = n_keys,
            .cols = t->lanes});
    add_biases(j, t, key, n_keys);
    j->b->kernels->softmax(&(SoftmaxTile){.s = t->scores,
            .max = t->max,
            .sum = t->sum,
            .factor = t->factor,
            .keys = n_keys,
            .lanes = t->lanes});
    for (int64_t d = 0; key > 0 && d < j->head_dim; d++)
        for (int64_t i = 0; i < t->lanes; i++)
            t->o[d * t->lanes + i] *= t->factor[i];
    j->b->kernels->mma(&(Mma){.c = t->o,
            .c_row = t->lanes,
            .a = &v,
            .n_parts = 1,
            .k = n_keys,
            .a_row = 1,
            .a_col = a->v.stride[0],
            .b = t->scores,
            .b_row = t->lanes,
            .b_block = MMA_BLOCK,
            .rows = j->head_dim,
            .cols = t->lanes,
            .add = true});
}

static void attend_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const AttentionJob *j = context;
    int64_t tk = j->a->k.dim[0];
    for (int64_t item = begin; item < end; item++) {
        Tile t = tile_init(j, j->b->scratch[worker].data, item);
        for (int64_t key = 0; key < tk; key += KEYS)
            attend_keys(j, &t, key, MIN((int64_t)KEYS, tk - key));
        for (int64_t i = 0; i < t.n_queries; i++) {
            float *o = view_f32(j->a->o) + (t.query + i) * j->a->o.stride[0] + t.head * j->head_dim;
            float inverse = 1 / t.sum[i];
            for (int64_t d = 0; d < j->head_dim; d++)
                o[d] = t.o[d * t.lanes + i] * inverse;
        }
    }
}

void cpu_attention(Stream *s, const AttentionArgs *a) {
    AttentionJob j = {.b = cpu_of(s), .a = a, .head_dim = a->q.dim[1] / a->n_heads};
    j.query_tiles = (a->q.dim[0] + LANES - 1) / LANES;
    int64_t macs = 2 * LANES * a->k.dim[0] * j.head_dim;
    if (scratch_reserve(s, tile_floats(j.head_dim), "attention"))
        cpu_for_rows(j.b, j.query_tiles * a->n_heads, macs / MACS_AN_ELEMENT, attend_tiles, &j);
}
