#include "model/dit.h"

#include "backend/ops.h"
#include "base/cleanup.h"
#include "base/macro.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Linear {
    View w; /* [out, in] */
    View b; /* [out] */
} Linear;

typedef struct DitAttention {
    Linear q, k, v, o;   /* [dim, dim] */
    View norm_q, norm_k; /* [dim], over all heads */
} DitAttention;

typedef struct DitBlock {
    WeightGroup *group;
    View table; /* [6, dim]: added to the timestep's shift, scale, gate of both halves */
    DitAttention self, cross;
    View norm_w, norm_b; /* [dim], before the cross-attention */
    Linear up, down;     /* [ffn, dim], [dim, ffn] */
} DitBlock;

typedef struct DitEnds {
    WeightGroup *first, *last;
    Linear patch;        /* [dim, in_channels * patch^2] */
    Linear text1, text2; /* [dim, text_dim], [dim, dim] */
    Linear time1, time2; /* [dim, freq_dim], [dim, dim] */
    Linear time_proj;    /* [6 dim, dim] */
    View table;          /* [2, dim]: added to the timestep's shift and scale of the head */
    Linear head;         /* [out_channels * patch^2, dim] */
} DitEnds;

struct Dit {
    DitDims dims;
    Weights *weights;
    DitEnds ends;
    DitBlock *blocks;
    float *sinusoid; /* [freq_dim], of one timestep on its way to the device */
};

#define D(member) WEIGHT_DIM(DitDims, member)
#define ONE WEIGHT_FIXED(1)
#define VECTOR(type, name, member, ...)                                                            \
    { WEIGHT(name, type, member, WEIGHT_VECTOR, __VA_ARGS__) }
#define MATRIX(type, name, member, ...)                                                            \
    { WEIGHT(name, type, member, WEIGHT_MATRIX, __VA_ARGS__) }
#define LINEAR(type, name, member, out, ...)                                                       \
    MATRIX(type, name ".weight", member.w, out, __VA_ARGS__),                                      \
            VECTOR(type, name ".bias", member.b, out)

/* clang-format off */
static const WeightSpec attention_spec[] = {
    LINEAR(DitAttention, "to_q", q, D(dim), D(dim)),
    LINEAR(DitAttention, "to_k", k, D(dim), D(dim)),
    LINEAR(DitAttention, "to_v", v, D(dim), D(dim)),
    LINEAR(DitAttention, "to_out.0", o, D(dim), D(dim)),
    VECTOR(DitAttention, "norm_q.weight", norm_q, D(dim)),
    VECTOR(DitAttention, "norm_k.weight", norm_k, D(dim)),
};
/* norm2 is the norm before the cross-attention here; the official files call it norm3. */
static const WeightSpec block_spec[] = {
    VECTOR(DitBlock, "scale_shift_table", table, ONE, WEIGHT_FIXED(6), D(dim)),
    VECTOR(DitBlock, "norm2.weight", norm_w, D(dim)),
    VECTOR(DitBlock, "norm2.bias", norm_b, D(dim)),
    LINEAR(DitBlock, "ffn.net.0.proj", up, D(ffn), D(dim)),
    LINEAR(DitBlock, "ffn.net.2", down, D(dim), D(ffn)),
};
static const WeightSpec first_spec[] = {
    LINEAR(DitEnds, "patch_embedding", patch, D(dim), D(in_channels), ONE, D(patch), D(patch)),
    LINEAR(DitEnds, "condition_embedder.text_embedder.linear_1", text1, D(dim), D(text_dim)),
    LINEAR(DitEnds, "condition_embedder.text_embedder.linear_2", text2, D(dim), D(dim)),
    LINEAR(DitEnds, "condition_embedder.time_embedder.linear_1", time1, D(dim), D(freq_dim)),
    LINEAR(DitEnds, "condition_embedder.time_embedder.linear_2", time2, D(dim), D(dim)),
    LINEAR(DitEnds, "condition_embedder.time_proj", time_proj, D(modulation), D(dim)),
};
static const WeightSpec last_spec[] = {
    VECTOR(DitEnds, "scale_shift_table", table, ONE, WEIGHT_FIXED(2), D(dim)),
    LINEAR(DitEnds, "proj_out", head, D(head), D(dim)),
};
/* clang-format on */

static int bind_attention(
        Dit *d, DitBlock *b, int64_t i, const char *name, DitAttention *a, Err *err) {
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), "blocks.%" PRId64 ".%s.", i, name);
    return weights_bind(
            b->group, attention_spec, ARRAY_LEN(attention_spec), prefix, a, &d->dims, err);
}

static int bind_block(Dit *d, int64_t i, Err *err) {
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), "blocks.%" PRId64 ".", i);
    DitBlock *b = &d->blocks[i];
    int r = weights_add_group(d->weights, prefix, &b->group, err);
    if (r == 0)
        r = weights_bind(b->group, block_spec, ARRAY_LEN(block_spec), prefix, b, &d->dims, err);
    if (r == 0)
        r = bind_attention(d, b, i, "attn1", &b->self, err);
    if (r == 0)
        r = bind_attention(d, b, i, "attn2", &b->cross, err);
    return r;
}

static int bind_all(Dit *d, Err *err) {
    DitEnds *e = &d->ends;
    int r = weights_add_group(d->weights, "embedders", &e->first, err);
    if (r == 0)
        r = weights_bind(e->first, first_spec, ARRAY_LEN(first_spec), "", e, &d->dims, err);
    for (int64_t i = 0; r == 0 && i < d->dims.n_layers; i++)
        r = bind_block(d, i, err);
    if (r == 0)
        r = weights_add_group(d->weights, "head", &e->last, err);
    if (r == 0)
        r = weights_bind(e->last, last_spec, ARRAY_LEN(last_spec), "", e, &d->dims, err);
    return r;
}

DEFINE_CLEANUP(Dit, dit_free)

int dit_new(Checkpoint *c, const DitDims *dims, Dit **ret, Err *err) {
    _cleanup_(dit_freep) Dit *d = calloc(1, sizeof(*d));
    if (!d || !(d->blocks = calloc((size_t)dims->n_layers, sizeof(*d->blocks))) ||
            !(d->sinusoid = calloc((size_t)dims->freq_dim, sizeof(*d->sinusoid))))
        return err_set(err, -ENOMEM, "no memory for the transformer");
    d->dims = *dims;
    int r = weights_new(c, "transformer", &d->weights, err);
    if (r == 0)
        r = bind_all(d, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(d);
    return 0;
}

Dit *dit_free(Dit *d) {
    if (!d)
        return NULL;
    weights_free(d->weights);
    free(d->blocks);
    free(d->sinusoid);
    free(d);
    return NULL;
}

Weights *dit_weights(const Dit *d) {
    return d->weights;
}

int dit_check_shape(const DitDims *dims, int64_t t, int64_t h, int64_t w, Err *err) {
    int64_t p = dims->patch;
    if (t < 1 || h < 1 || w < 1 || h % p != 0 || w % p != 0)
        return err_set(err, -EINVAL,
                "latents of %jd frames of %jdx%jd do not divide into patches of %jdx%jd",
                (intmax_t)t, (intmax_t)w, (intmax_t)h, (intmax_t)p, (intmax_t)p);
    if (t > dims->rope_max || h / p > dims->rope_max || w / p > dims->rope_max)
        return err_set(err, -EINVAL,
                "latents of %jd frames of %jdx%jd patches exceed the %jd positions of an axis",
                (intmax_t)t, (intmax_t)(w / p), (intmax_t)(h / p), (intmax_t)dims->rope_max);
    return 0;
}

int64_t dit_n_tokens(const DitDims *dims, int64_t t, int64_t h, int64_t w) {
    return t * (h / dims->patch) * (w / dims->patch);
}

/* Cosine and sine of pos * 10000^(-2 j / width) for the width / 2 pairs of one axis. */
static void rope_axis(float *to, int64_t pos, int64_t width) {
    for (int64_t j = 0; j < width / 2; j++) {
        double angle = (double)pos / pow(10000.0, 2.0 * (double)j / (double)width);
        to[2 * j] = (float)cos(angle);
        to[2 * j + 1] = (float)sin(angle);
    }
}

/* Of a head's features, a third (rounded down to pairs) turns with the row, as many with the
 * column, and the rest with the frame; frame first. */
static void rope_fill(float *to, const DitDims *dims, int64_t t, int64_t rows, int64_t cols) {
    int64_t side = 2 * (dims->head_dim / 6), front = dims->head_dim - 2 * side;
    float *row = to; /* token (0, y, 0) and (0, 0, x) serve as tables for the rest */
    for (int64_t i = 0; i < t * rows * cols; i++, row += dims->head_dim) {
        int64_t x = i % cols, y = i / cols % rows, f = i / cols / rows;
        const float *same_frame = to + f * rows * cols * dims->head_dim;
        const float *same_row = to + y * cols * dims->head_dim;
        const float *same_col = to + x * dims->head_dim;
        if (x == 0 && y == 0)
            rope_axis(row, f, front);
        else
            (void)memcpy(row, same_frame, (size_t)front * sizeof(*row));
        if (x == 0 && f == 0)
            rope_axis(row + front, y, side);
        else
            (void)memcpy(row + front, same_row + front, (size_t)side * sizeof(*row));
        if (y == 0 && f == 0)
            rope_axis(row + front + side, x, side);
        else
            (void)memcpy(row + front + side, same_col + front + side, (size_t)side * sizeof(*row));
    }
}

View dit_rope(Stream *s, const Dit *d, int64_t t, int64_t h, int64_t w) {
    int64_t n = dit_n_tokens(&d->dims, t, h, w), pairs = d->dims.head_dim / 2;
    View rope = stream_temp(s, DTYPE_F32, n, pairs, 2);
    if (stream_is_planning(s))
        return rope;
    _cleanup_free_ float *host = malloc(view_bytes(rope));
    if (!host) {
        stream_fail(s, -ENOMEM, "no memory for the rotary table of %" PRId64 " tokens", n);
        return rope;
    }
    rope_fill(host, &d->dims, t, h / d->dims.patch, w / d->dims.patch);
    stream_upload(s, rope, view_of(host, DTYPE_F32, n, pairs, 2));
    return rope;
}

static DType activation(const Stream *s) {
    return backend_info(stream_backend(s))->activation;
}

static void linear(Stream *s, View y, View x, const Linear *l, Activation act) {
    op_linear(s, y, x, l->w, l->b, act);
}

void dit_context(Stream *s, Dit *d, View rows, DitContext *ret, const Observer *observer) {
    int64_t n = rows.dim[0], dim = d->dims.dim;
    assert(rows.rank == 2 && n >= 1 && n <= TEXT_ROWS && rows.dim[1] == d->dims.text_dim);
    int64_t keys = MIN(n + 1, (int64_t)TEXT_ROWS);
    *ret = (DitContext){
            .text = stream_temp(s, activation(s), keys, dim),
            .kv = stream_temp(s, activation(s), d->dims.n_layers, 2, keys, dim),
            .last_key_bias = keys > n ? (float)log((double)(TEXT_ROWS - n)) : 0,
    };
    size_t mark = stream_mark(s);
    View padded = stream_temp(s, activation(s), keys, d->dims.text_dim);
    View hidden = stream_temp(s, activation(s), keys, dim);
    op_copy(s, view_rows(padded, 0, n), rows);
    if (keys > n)
        op_fill(s, view_rows(padded, n, 1), 0);
    weights_need(d->ends.first, s);
    linear(s, hidden, padded, &d->ends.text1, ACT_GELU_TANH);
    linear(s, ret->text, hidden, &d->ends.text2, ACT_NONE);
    observer_see(observer, s, "dit.text", -1, ret->text);
    stream_release(s, mark);
}

/* Keys and values of one block from the projected rows. */
static void fill_context(Stream *s, const Dit *d, const DitBlock *w, DitContext *c, int64_t layer) {
    View kv = view_at(c->kv, layer), k = view_at(kv, 0), v = view_at(kv, 1);
    linear(s, k, c->text, &w->cross.k, ACT_NONE);
    op_norm_rope(s, k, k, w->cross.norm_k, (View){0}, d->dims.n_heads, (float)d->dims.eps);
    linear(s, v, c->text, &w->cross.v, ACT_NONE);
}

/* One step's pass: what all its functions share. */
typedef struct Pass {
    const DitForward *f;
    const DitDims *dims;
    DType act;
    int64_t n; /* tokens */
    View temb; /* [n_runs, dim] F32 */
    View proj; /* [n_runs, 6, dim] F32 */
    float eps;
} Pass;

/* cos(t w_j), then sin(t w_j), w_j = 10000^(-j / half). In single precision like the reference: a
 * product near 1000 is off by up to 3e-5 there, and being more exact would be different. */
static void sinusoid(float *to, int64_t freq_dim, double timestep) {
    int64_t half = freq_dim / 2;
    for (int64_t j = 0; j < half; j++) {
        float exponent = (float)-log(10000.0) * (float)j / (float)half;
        float angle = (float)timestep * (float)exp((double)exponent);
        to[j] = (float)cos((double)angle);
        to[half + j] = (float)sin((double)angle);
    }
}

/* p->temb and p->proj, a row for each run. */
static void embed_time(Stream *s, Dit *d, Pass *p) {
    int64_t n = p->f->n_runs, dim = p->dims->dim, freq = p->dims->freq_dim;
    p->temb = stream_temp(s, DTYPE_F32, n, dim);
    p->proj = stream_temp(s, DTYPE_F32, n, 6, dim);
    size_t mark = stream_mark(s);
    View waves = stream_temp(s, DTYPE_F32, n, freq), hidden = stream_temp(s, DTYPE_F32, n, dim);
    for (int64_t i = 0; i < n; i++) {
        sinusoid(d->sinusoid, freq, p->f->runs[i].timestep);
        stream_upload(s, view_at(waves, i), view_of(d->sinusoid, DTYPE_F32, freq));
    }
    linear(s, hidden, waves, &d->ends.time1, ACT_SILU);
    linear(s, p->temb, hidden, &d->ends.time2, ACT_NONE);
    op_act(s, hidden, p->temb, ACT_SILU);
    linear(s, view_reshape(p->proj, n, p->dims->modulation), hidden, &d->ends.time_proj, ACT_NONE);
    observer_see(p->f->observer, s, "dit.temb", -1, p->temb);
    observer_see(p->f->observer, s, "dit.timestep_proj", -1,
            view_reshape(p->proj, n, p->dims->modulation));
    stream_release(s, mark);
}

static void embed_patches(Stream *s, const Dit *d, const Pass *p, View x) {
    size_t mark = stream_mark(s);
    int64_t area = p->dims->patch * p->dims->patch;
    View patches = stream_temp(s, p->act, p->n, p->dims->in_channels * area);
    op_patchify(s, patches, p->f->x, (int)p->dims->patch);
    linear(s, x, patches, &d->ends.patch, ACT_NONE);
    observer_see(p->f->observer, s, "dit.patch_embedding", -1, x);
    stream_release(s, mark);
}

/* y = layer_norm(x) * (1 + scale) + shift, each run with its own rows of e [n_runs, _, dim]. */
static void modulate(Stream *s, const Pass *p, View y, View x, View e, int64_t shift) {
    int64_t start = 0;
    for (int64_t i = 0; i < p->f->n_runs; i++) {
        int64_t n = p->f->runs[i].n_tokens;
        View row = view_at(e, i);
        op_norm_modulate(s, view_rows(y, start, n), view_rows(x, start, n), view_at(row, shift),
                view_at(row, shift + 1), p->eps);
        start += n;
    }
}

/* x += h * gate, each run with its own gate. */
static void add_gated(Stream *s, const Pass *p, View x, View h, View e, int64_t gate) {
    int64_t start = 0;
    for (int64_t i = 0; i < p->f->n_runs; i++) {
        int64_t n = p->f->runs[i].n_tokens;
        op_add_gated(
                s, view_rows(x, start, n), view_rows(h, start, n), view_at(view_at(e, i), gate));
        start += n;
    }
}

static void attend_self(Stream *s, const Pass *p, const DitBlock *w, View x, View e) {
    int64_t n = p->n, dim = p->dims->dim;
    size_t mark = stream_mark(s);
    View h = stream_temp(s, p->act, n, dim), q = stream_temp(s, p->act, n, dim);
    View k = stream_temp(s, p->act, n, dim), v = stream_temp(s, p->act, n, dim);

    modulate(s, p, h, x, e, 0);
    linear(s, q, h, &w->self.q, ACT_NONE);
    linear(s, k, h, &w->self.k, ACT_NONE);
    linear(s, v, h, &w->self.v, ACT_NONE);
    op_norm_rope(s, q, q, w->self.norm_q, p->f->rope, p->dims->n_heads, p->eps);
    op_norm_rope(s, k, k, w->self.norm_k, p->f->rope, p->dims->n_heads, p->eps);
    op_attention(s, &(AttentionArgs){
                            .o = h,
                            .q = q,
                            .k = k,
                            .v = v,
                            .n_heads = p->dims->n_heads,
                            .scale = (float)(1 / sqrt((double)p->dims->head_dim)),
                    });
    linear(s, q, h, &w->self.o, ACT_NONE);
    add_gated(s, p, x, q, e, 2);
    stream_release(s, mark);
}

static void attend_cross(
        Stream *s, const Pass *p, const DitBlock *w, View x, const DitContext *c, int64_t layer) {
    size_t mark = stream_mark(s);
    View h = stream_temp(s, p->act, p->n, p->dims->dim);
    View q = stream_temp(s, p->act, p->n, p->dims->dim);
    View kv = view_at(c->kv, layer);

    op_layer_norm(s, h, x, w->norm_w, w->norm_b, p->eps);
    linear(s, q, h, &w->cross.q, ACT_NONE);
    op_norm_rope(s, q, q, w->cross.norm_q, (View){0}, p->dims->n_heads, p->eps);
    op_attention(s, &(AttentionArgs){
                            .o = h,
                            .q = q,
                            .k = view_at(kv, 0),
                            .v = view_at(kv, 1),
                            .n_heads = p->dims->n_heads,
                            .scale = (float)(1 / sqrt((double)p->dims->head_dim)),
                            .last_key_bias = c->last_key_bias,
                    });
    linear(s, q, h, &w->cross.o, ACT_NONE);
    op_add(s, x, q);
    stream_release(s, mark);
}

static void feed_forward(Stream *s, const Pass *p, const DitBlock *w, View x, View e) {
    size_t mark = stream_mark(s);
    View h = stream_temp(s, p->act, p->n, p->dims->dim);
    View wide = stream_temp(s, p->act, p->n, p->dims->ffn);

    modulate(s, p, h, x, e, 3);
    linear(s, wide, h, &w->up, ACT_GELU_TANH);
    linear(s, h, wide, &w->down, ACT_NONE);
    add_gated(s, p, x, h, e, 5);
    stream_release(s, mark);
}

/* y[i] = table + proj[i], [rows, dim] each. */
static void fold(Stream *s, View y, View table, View proj) {
    op_lincomb(s, y, 2, (const View[]){table, proj}, (const float[]){1, 1});
}

/* Block `layer` on each context's stream of tokens. Before the first cross-attention the streams
 * are equal: only x[0] is there. */
static void run_block(Stream *s, Dit *d, const Pass *p, int64_t layer, const View x[]) {
    const DitBlock *w = &d->blocks[layer];
    weights_need(w->group, s);
    size_t mark = stream_mark(s);
    View e = stream_temp(s, DTYPE_F32, p->f->n_runs, 6, p->dims->dim);
    for (int64_t i = 0; i < p->f->n_runs; i++)
        fold(s, view_at(e, i), w->table, view_at(p->proj, i));

    for (int i = 0; i < p->f->n_contexts; i++) {
        DitContext *c = p->f->context[i];
        if (!c->cached)
            fill_context(s, d, w, c, layer);
        if (layer > 0 || i == 0)
            attend_self(s, p, w, x[i], e);
        if (layer == 0 && i == 0)
            for (int k = 1; k < p->f->n_contexts; k++)
                op_copy(s, x[k], x[0]);
        attend_cross(s, p, w, x[i], c, layer);
        feed_forward(s, p, w, x[i], e);
    }
    observer_see(p->f->observer, s, "dit.block", layer, x[0]);
    stream_release(s, mark);
}

/* The head's modulation adds the time embedding itself, not its projection, to both rows. */
static void run_head(Stream *s, Dit *d, const Pass *p, View y, View x) {
    weights_need(d->ends.last, s);
    size_t mark = stream_mark(s);
    View e = stream_temp(s, DTYPE_F32, p->f->n_runs, 2, p->dims->dim);
    for (int64_t i = 0; i < p->f->n_runs; i++)
        for (int64_t k = 0; k < 2; k++)
            fold(s, view_at(view_at(e, i), k), view_at(d->ends.table, k), view_at(p->temb, i));
    View h = stream_temp(s, p->act, p->n, p->dims->dim);
    View patches = stream_temp(s, DTYPE_F32, p->n, p->dims->head);
    modulate(s, p, h, x, e, 0);
    linear(s, patches, h, &d->ends.head, ACT_NONE);
    op_unpatchify(s, y, patches, (int)p->dims->patch);
    stream_release(s, mark);
}

static void assert_forward(const Dit *d, const DitForward *f, int64_t n) {
    assert(f->x.rank == 4 && f->x.dim[0] == d->dims.in_channels);
    assert(f->rope.dim[0] == n && f->n_contexts >= 1 && f->n_contexts <= DIT_MAX_CONTEXTS);
    int64_t covered = 0;
    for (int64_t i = 0; i < f->n_runs; i++)
        covered += f->runs[i].n_tokens;
    assert(covered == n);
}

void dit_forward(Stream *s, Dit *d, const DitForward *f) {
    Pass p = {
            .f = f,
            .dims = &d->dims,
            .act = activation(s),
            .n = dit_n_tokens(&d->dims, f->x.dim[1], f->x.dim[2], f->x.dim[3]),
            .eps = (float)d->dims.eps,
    };
    assert_forward(d, f, p.n);
    size_t mark = stream_mark(s);
    View x[DIT_MAX_CONTEXTS] = {0};
    for (int i = 0; i < f->n_contexts; i++)
        x[i] = stream_temp(s, DTYPE_F32, p.n, d->dims.dim);

    weights_need(d->ends.first, s);
    embed_time(s, d, &p);
    embed_patches(s, d, &p, x[0]);
    for (int64_t i = 0; i < d->dims.n_layers; i++)
        run_block(s, d, &p, i, x);
    for (int i = 0; i < f->n_contexts; i++) {
        f->context[i]->cached = true;
        run_head(s, d, &p, f->y[i], x[i]);
    }
    stream_release(s, mark);
}
