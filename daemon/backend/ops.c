#include "backend/ops.h"

#include "backend/interface.h"

/* Every op below asserts its contract, then reaches the device; a planning stream stops after the
 * asserts, so a planning pass checks the shapes of the whole model. */

static bool is_act(const Stream *s, View v) {
    return v.dtype == DTYPE_F32 || v.dtype == s->backend->info.activation;
}

static bool is_vector(View v, int64_t n) {
    return v.dtype == DTYPE_F32 && v.rank == 1 && v.dim[0] == n;
}

static bool is_vector_or_null(View v, int64_t n) {
    return view_is_null(v) || is_vector(v, n);
}

static bool is_matrix(const Stream *s, View v, int64_t m, int64_t n) {
    return is_act(s, v) && v.rank == 2 && v.dim[0] == m && v.dim[1] == n;
}

static bool is_video(const Stream *s, View v) {
    return v.dtype == s->backend->info.activation && v.rank == 4;
}

/* Dense in each frame: only the frames' stride is free. */
static bool has_dense_frames(View v) {
    return v.dim[0] == 0 || view_is_dense(view_at(v, 0));
}

void op_copy(Stream *s, View y, View x) {
    assert(view_same_shape(y, x));
    assert(y.dtype == DTYPE_F32 || y.dtype == DTYPE_BF16 || y.dtype == DTYPE_F16);
    assert(x.dtype == DTYPE_F32 || x.dtype == DTYPE_BF16 || x.dtype == DTYPE_F16);
    if (stream_is_live(s))
        s->backend->ops->copy(s, y, x);
}

void op_fill(Stream *s, View y, float value) {
    assert(is_act(s, y));
    if (stream_is_live(s))
        s->backend->ops->fill(s, y, value);
}

void op_linear(Stream *s, View y, View x, View w, View bias, Activation act) {
    assert(w.rank == 2 && x.rank == 2);
    assert(is_matrix(s, x, x.dim[0], w.dim[1]) && is_matrix(s, y, x.dim[0], w.dim[0]));
    assert(is_vector_or_null(bias, w.dim[0]));
    if (stream_is_live(s))
        s->backend->ops->linear(s, y, x, w, bias, act);
}

void op_geglu(Stream *s, View y, View gate, View up) {
    assert(view_same_shape(y, gate) && view_same_shape(y, up) && y.rank == 2);
    assert(is_act(s, y) && gate.dtype == y.dtype && up.dtype == y.dtype);
    assert(view_is_dense(y) && view_is_dense(gate) && view_is_dense(up));
    if (stream_is_live(s))
        s->backend->ops->geglu(s, y, gate, up);
}

void op_act(Stream *s, View y, View x, Activation act) {
    assert(view_same_shape(y, x) && y.dtype == x.dtype && is_act(s, y));
    assert(view_is_dense(y) && view_is_dense(x));
    if (stream_is_live(s))
        s->backend->ops->act(s, y, x, act);
}

static void assert_norm(const Stream *s, View y, View x) {
    assert(x.rank == 2 && is_matrix(s, x, x.dim[0], x.dim[1]) &&
            is_matrix(s, y, x.dim[0], x.dim[1]));
}

void op_rms_norm(Stream *s, View y, View x, View w, float eps) {
    assert_norm(s, y, x);
    assert(is_vector(w, x.dim[1]));
    if (stream_is_live(s))
        s->backend->ops->rms_norm(s, y, x, w, eps);
}

void op_layer_norm(Stream *s, View y, View x, View w, View bias, float eps) {
    assert_norm(s, y, x);
    assert(is_vector_or_null(w, x.dim[1]) && is_vector_or_null(bias, x.dim[1]));
    assert(view_is_null(w) == view_is_null(bias));
    if (stream_is_live(s))
        s->backend->ops->layer_norm(s, y, x, w, bias, eps);
}

void op_norm_modulate(Stream *s, View y, View x, View shift, View scale, float eps) {
    assert_norm(s, y, x);
    assert(is_vector(shift, x.dim[1]) && is_vector(scale, x.dim[1]));
    if (stream_is_live(s))
        s->backend->ops->norm_modulate(s, y, x, shift, scale, eps);
}

void op_add(Stream *s, View x, View h) {
    assert_norm(s, x, h);
    if (stream_is_live(s))
        s->backend->ops->add(s, x, h);
}

void op_add_gated(Stream *s, View x, View h, View gate) {
    assert_norm(s, x, h);
    assert(is_vector(gate, x.dim[1]));
    if (stream_is_live(s))
        s->backend->ops->add_gated(s, x, h, gate);
}

void op_norm_rope(Stream *s, View y, View x, View w, View rope, int64_t n_heads, float eps) {
    assert_norm(s, y, x);
    assert(y.dtype == s->backend->info.activation && x.dtype == y.dtype);
    assert(is_vector(w, x.dim[1]) && n_heads > 0 && x.dim[1] % (2 * n_heads) == 0);
    assert(view_is_null(rope) ||
            (rope.dtype == DTYPE_F32 && rope.rank == 3 && view_is_dense(rope) &&
                    rope.dim[0] == x.dim[0] && rope.dim[1] == x.dim[1] / n_heads / 2 &&
                    rope.dim[2] == 2));
    if (stream_is_live(s))
        s->backend->ops->norm_rope(s, y, x, w, rope, n_heads, eps);
}

void op_attention(Stream *s, const AttentionArgs *a) {
    DType act = s->backend->info.activation;
    int64_t tq = a->q.dim[0], tk = a->k.dim[0], width = a->q.dim[1];
    assert(a->q.dtype == act && a->k.dtype == act && a->v.dtype == act && a->o.dtype == act);
    assert(is_matrix(s, a->q, tq, width) && is_matrix(s, a->o, tq, width));
    assert(is_matrix(s, a->k, tk, width) && is_matrix(s, a->v, tk, width) && tk > 0);
    assert(a->n_heads > 0 && width % a->n_heads == 0);
    assert(view_is_null(a->rel_bias) ||
            (a->rel_bias.dtype == DTYPE_F32 && a->rel_bias.rank == 2 &&
                    view_is_dense(a->rel_bias) && a->rel_bias.dim[0] == tq + tk - 1 &&
                    a->rel_bias.dim[1] == a->n_heads));
    if (stream_is_live(s))
        s->backend->ops->attention(s, a);
}

static void assert_conv(const Stream *s, const ConvArgs *a) {
    assert(is_video(s, a->x) && is_video(s, a->y) && (a->w.rank == 5 || a->w.rank == 4));
    int64_t kt = a->w.rank == 5 ? a->w.dim[2] : 1;
    int64_t kh = a->w.dim[a->w.rank - 2], kw = a->w.dim[a->w.rank - 1];
    int64_t up = a->upsample ? 2 : 1, p = view_is_null(a->prev) ? 0 : a->prev.dim[0];
    assert(a->stride_t > 0 && a->stride_s > 0 && a->zero_frames >= 0 && a->pad_lo >= 0 &&
            a->pad_hi >= 0);
    assert(a->x.dim[3] == a->w.dim[1] && a->y.dim[3] == a->w.dim[0]);
    assert(is_vector(a->bias, a->w.dim[0]));
    assert(has_dense_frames(a->x) && has_dense_frames(a->y));

    int64_t frames = a->zero_frames + p + a->x.dim[0];
    int64_t rows = up * a->x.dim[1] + a->pad_lo + a->pad_hi;
    int64_t cols = up * a->x.dim[2] + a->pad_lo + a->pad_hi;
    assert(frames >= kt && a->y.dim[0] == (frames - kt) / a->stride_t + 1);
    assert(rows >= kh && a->y.dim[1] == (rows - kh) / a->stride_s + 1);
    assert(cols >= kw && a->y.dim[2] == (cols - kw) / a->stride_s + 1);
    if (p > 0) {
        assert(is_video(s, a->prev) && has_dense_frames(a->prev));
        assert(a->prev.dim[1] == a->x.dim[1] && a->prev.dim[2] == a->x.dim[2] &&
                a->prev.dim[3] == a->x.dim[3]);
    }
    if (!view_is_null(a->add))
        assert(is_video(s, a->add) && view_same_shape(a->add, a->y) && has_dense_frames(a->add));
}

void op_conv(Stream *s, const ConvArgs *a) {
    assert_conv(s, a);
    if (stream_is_live(s))
        s->backend->ops->conv(s, a);
}

static bool is_dense_video(const Stream *s, View v) {
    return is_video(s, v) && view_is_dense(v);
}

void op_vae_norm(Stream *s, View y, View x, View gamma, Activation act) {
    assert(is_dense_video(s, y) && is_dense_video(s, x) && view_same_shape(y, x));
    assert(is_vector(gamma, x.dim[3]));
    if (stream_is_live(s))
        s->backend->ops->vae_norm(s, y, x, gamma, act);
}

void op_avg_down_add(Stream *s, View y, View x, int ft, int fs) {
    assert(is_dense_video(s, y) && is_dense_video(s, x) && ft > 0 && fs > 0);
    assert(y.dim[0] * ft >= x.dim[0] && y.dim[0] * ft - x.dim[0] < ft);
    assert(y.dim[1] * fs == x.dim[1] && y.dim[2] * fs == x.dim[2]);
    assert(x.dim[3] * ft * fs * fs % y.dim[3] == 0);
    if (stream_is_live(s))
        s->backend->ops->avg_down_add(s, y, x, ft, fs);
}

void op_dup_up_add(Stream *s, View y, View x, int ft, int fs) {
    assert(is_dense_video(s, y) && is_dense_video(s, x) && ft > 0 && fs > 0);
    assert(x.dim[0] * ft >= y.dim[0] && x.dim[0] * ft - y.dim[0] < ft);
    assert(x.dim[1] * fs == y.dim[1] && x.dim[2] * fs == y.dim[2]);
    assert(y.dim[3] * ft * fs * fs % x.dim[3] == 0);
    if (stream_is_live(s))
        s->backend->ops->dup_up_add(s, y, x, ft, fs);
}

static bool is_latents(View v) {
    return v.dtype == DTYPE_F32 && v.rank == 4 && view_is_dense(v);
}

static void assert_patches(View tokens, View latents, int p) {
    assert(is_latents(latents) && view_is_dense(tokens) && p > 0);
    assert(latents.dim[2] % p == 0 && latents.dim[3] % p == 0);
    assert(tokens.dim[0] == latents.dim[1] * (latents.dim[2] / p) * (latents.dim[3] / p));
    assert(tokens.dim[1] == latents.dim[0] * p * p);
}

void op_patchify(Stream *s, View y, View x, int p) {
    assert(y.rank == 2 && is_act(s, y));
    assert_patches(y, x, p);
    if (stream_is_live(s))
        s->backend->ops->patchify(s, y, x, p);
}

void op_unpatchify(Stream *s, View y, View x, int p) {
    assert(x.rank == 2 && x.dtype == DTYPE_F32);
    assert_patches(x, y, p);
    if (stream_is_live(s))
        s->backend->ops->unpatchify(s, y, x, p);
}

void op_lincomb(Stream *s, View y, int n, const View x[], const float a[]) {
    assert(n >= 1 && n <= 4 && y.dtype == DTYPE_F32 && view_is_dense(y));
    for (int i = 0; i < n; i++)
        assert(x[i].dtype == DTYPE_F32 && view_is_dense(x[i]) && view_same_shape(x[i], y));
    if (stream_is_live(s))
        s->backend->ops->lincomb(s, y, n, x, a);
}

void op_gather_rows(Stream *s, View y, View table, const int32_t *ids) {
    assert(table.rank == 2 && y.rank == 2 && y.dim[1] == table.dim[1]);
    assert(is_act(s, y) && view_is_dense(y) && view_is_dense(table));
    for (int64_t i = 0; i < y.dim[0]; i++)
        assert(ids[i] >= 0 && ids[i] < table.dim[0]);
    if (stream_is_live(s))
        s->backend->ops->gather_rows(s, y, table, ids);
}

static void assert_channels(const Stream *s, View last, View first, View scale, View shift) {
    assert(is_latents(first) && is_video(s, last));
    assert(last.dim[0] == first.dim[1] && last.dim[1] == first.dim[2] &&
            last.dim[2] == first.dim[3] && last.dim[3] == first.dim[0]);
    assert(is_vector(scale, first.dim[0]) && is_vector(shift, first.dim[0]));
}

void op_to_channels_last(Stream *s, View y, View x, View scale, View shift) {
    assert_channels(s, y, x, scale, shift);
    assert(view_is_dense(y));
    if (stream_is_live(s))
        s->backend->ops->to_channels_last(s, y, x, scale, shift);
}

void op_to_channels_first(Stream *s, View y, View x, View scale, View shift) {
    assert_channels(s, x, y, scale, shift);
    if (stream_is_live(s))
        s->backend->ops->to_channels_first(s, y, x, scale, shift);
}

static void assert_pixels(const Stream *s, View patched, View pixels, int p) {
    assert(is_dense_video(s, patched) && pixels.rank == 4 && view_is_dense(pixels) && p > 0);
    assert(pixels.dim[0] == patched.dim[0] && pixels.dim[1] == p * patched.dim[1] &&
            pixels.dim[2] == p * patched.dim[2] && pixels.dim[3] * p * p == patched.dim[3]);
}

void op_vae_patchify(Stream *s, View y, View x, int p) {
    assert_pixels(s, y, x, p);
    assert(x.dtype == DTYPE_F32);
    if (stream_is_live(s))
        s->backend->ops->vae_patchify(s, y, x, p);
}

void op_vae_unpatchify(Stream *s, View y, View x, int p) {
    assert_pixels(s, x, y, p);
    assert(y.dtype == DTYPE_F32 || y.dtype == DTYPE_U8);
    if (stream_is_live(s))
        s->backend->ops->vae_unpatchify(s, y, x, p);
}

void op_count_nonfinite(Stream *s, View y, View x) {
    assert(y.dtype == DTYPE_I32 && y.rank == 1 && y.dim[0] == 1);
    assert(x.dtype == DTYPE_F32 && view_is_dense(x));
    if (stream_is_live(s))
        s->backend->ops->count_nonfinite(s, y, x);
}
