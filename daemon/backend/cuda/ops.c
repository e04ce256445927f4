#include "backend/cuda/cuda-impl.h"

#include <assert.h>

/* From views to what the launchers of kernels.h take. */

static Mat mat_of(View v) {
    return (Mat){.data = v.data,
            .dtype = v.dtype,
            .m = v.dim[0],
            .n = v.dim[1],
            .stride = v.dim[0] == 1 ? v.dim[1] : v.stride[0]};
}

/* A dense view of any rank as rows of its last axis. */
static Mat rows_of(View v) {
    int64_t n = v.rank > 0 ? v.dim[v.rank - 1] : 1;
    return (Mat){v.data, v.dtype, n > 0 ? view_count(v) / n : 0, n, n};
}

/* A dense view as one row. */
static Mat flat_of(View v) {
    int64_t n = view_count(v);
    return (Mat){v.data, v.dtype, 1, n, n};
}

static Grid grid_of(View v) {
    Grid g = {.data = v.data, .dtype = v.dtype};
    for (int i = 0; i < VIEW_MAX_RANK; i++) {
        int axis = i - (VIEW_MAX_RANK - v.rank);
        g.dim[i] = axis < 0 ? 1 : v.dim[axis];
        g.stride[i] = axis < 0 ? 0 : v.stride[axis];
    }
    return g;
}

static void copy(Stream *s, View y, View x) {
    (void)cuda_check(s, pointwise_copy(cuda_stream(s)->stream, grid_of(y), grid_of(x)), "copy");
}

static void fill(Stream *s, View y, float value) {
    (void)cuda_check(s, pointwise_fill(cuda_stream(s)->stream, grid_of(y), value), "fill");
}

static void geglu(Stream *s, View y, View gate, View up) {
    (void)cuda_check(s,
            pointwise_geglu(cuda_stream(s)->stream, mat_of(y), mat_of(gate), mat_of(up)), "geglu");
}

static void act(Stream *s, View y, View x, Activation a) {
    (void)cuda_check(
            s, pointwise_act(cuda_stream(s)->stream, flat_of(y), flat_of(x), (int)a), "act");
}

static void norm(Stream *s, const NormArgs *a, const char *op) {
    (void)cuda_check(s, norm_rows(cuda_stream(s)->stream, a), op);
}

static void rms_norm(Stream *s, View y, View x, View w, float eps) {
    NormArgs a = {.y = mat_of(y), .x = mat_of(x), .w = w.data, .eps = eps};
    norm(s, &a, "rms_norm");
}

static void layer_norm(Stream *s, View y, View x, View w, View bias, float eps) {
    NormArgs a = {.y = mat_of(y),
            .x = mat_of(x),
            .w = w.data,
            .bias = bias.data,
            .eps = eps,
            .centred = true};
    norm(s, &a, "layer_norm");
}

static void norm_modulate(Stream *s, View y, View x, View shift, View scale, float eps) {
    NormArgs a = {.y = mat_of(y),
            .x = mat_of(x),
            .w = scale.data,
            .bias = shift.data,
            .w_plus = 1,
            .eps = eps,
            .centred = true};
    norm(s, &a, "norm_modulate");
}

static void vae_norm(Stream *s, View y, View x, View gamma, Activation activation) {
    NormArgs a = {
            .y = rows_of(y), .x = rows_of(x), .w = gamma.data, .vae = true, .act = (int)activation};
    norm(s, &a, "vae_norm");
}

static void add(Stream *s, View x, View h) {
    (void)cuda_check(s, pointwise_add(cuda_stream(s)->stream, mat_of(x), mat_of(h), NULL), "add");
}

static void add_gated(Stream *s, View x, View h, View gate) {
    (void)cuda_check(
            s, pointwise_add(cuda_stream(s)->stream, mat_of(x), mat_of(h), gate.data), "add_gated");
}

static void norm_rope(Stream *s, View y, View x, View w, View rope, int64_t n_heads, float eps) {
    (void)cuda_check(s,
            norm_rope_rows(cuda_stream(s)->stream, mat_of(y), mat_of(x), w.data, rope.data,
                    x.dim[1] / n_heads, eps),
            "norm_rope");
}

/* The fastest kernel that takes the shape. */
static void attention(Stream *s, const AttentionArgs *a) {
    CudaBackend *b = cuda_backend(s->backend);
    cudaStream_t stream = cuda_stream(s)->stream;
    FlashArgs f = {.o = mat_of(a->o),
            .q = mat_of(a->q),
            .k = mat_of(a->k),
            .v = mat_of(a->v),
            .n_heads = a->n_heads,
            .head_dim = a->q.dim[1] / a->n_heads,
            .scale = a->scale,
            .last_key_bias = a->last_key_bias,
            .rel_bias = a->rel_bias.data};
    cudaError_t e = cudaErrorNotSupported;
    if (b->hopper && !b->exact)
        e = attention_hopper(stream, b->driver.encode, &f);
    if (e == cudaErrorNotSupported)
        e = attention_mma(stream, &f);
    if (e == cudaErrorNotSupported)
        e = attention_wide(stream, &f);
    if (e == cudaErrorNotSupported)
        e = attention_plain(stream, &f);
    (void)cuda_check(s, e, "attention");
}

static ResampleArgs resample_of(View y, View x, int ft, int fs) {
    return (ResampleArgs){.y = y.data,
            .x = x.data,
            .dtype = y.dtype,
            .t = y.dim[0],
            .h = y.dim[1],
            .w = y.dim[2],
            .c = y.dim[3],
            .x_t = x.dim[0],
            .c_in = x.dim[3],
            .ft = ft,
            .fs = fs};
}

static void avg_down_add(Stream *s, View y, View x, int ft, int fs) {
    ResampleArgs a = resample_of(y, x, ft, fs);
    (void)cuda_check(s, resample_avg_down(cuda_stream(s)->stream, &a), "avg_down_add");
}

static void dup_up_add(Stream *s, View y, View x, int ft, int fs) {
    ResampleArgs a = resample_of(y, x, ft, fs);
    (void)cuda_check(s, resample_dup_up(cuda_stream(s)->stream, &a), "dup_up_add");
}

static void lincomb(Stream *s, View y, int n, const View x[], const float a[]) {
    const float *term[4] = {NULL};
    assert(n <= 4);
    for (int i = 0; i < n; i++)
        term[i] = x[i].data;
    (void)cuda_check(s,
            pointwise_lincomb(cuda_stream(s)->stream, y.data, n, term, a, view_count(y)),
            "lincomb");
}

static void count_nonfinite(Stream *s, View y, View x) {
    (void)cuda_check(s,
            pointwise_count_nonfinite(cuda_stream(s)->stream, y.data, x.data, view_count(x)),
            "count_nonfinite");
}

static void patchify(Stream *s, View y, View x, int p) {
    ShuffleArgs a = {.y = y.data,
            .x = x.data,
            .y_dtype = y.dtype,
            .t = x.dim[1],
            .h = x.dim[2] / p,
            .w = x.dim[3] / p,
            .c = x.dim[0],
            .p = p};
    (void)cuda_check(s, shuffle_patchify(cuda_stream(s)->stream, &a), "patchify");
}

static void unpatchify(Stream *s, View y, View x, int p) {
    ShuffleArgs a = {.y = y.data,
            .x = x.data,
            .t = y.dim[1],
            .h = y.dim[2] / p,
            .w = y.dim[3] / p,
            .c = y.dim[0],
            .p = p};
    (void)cuda_check(s, shuffle_unpatchify(cuda_stream(s)->stream, &a), "unpatchify");
}

static ShuffleArgs channels_of(View last, View scale, View shift) {
    return (ShuffleArgs){.scale = scale.data,
            .shift = shift.data,
            .t = last.dim[0],
            .h = last.dim[1],
            .w = last.dim[2],
            .c = last.dim[3],
            .stride = {last.stride[0], last.stride[1], last.stride[2]}};
}

static void to_channels_last(Stream *s, View y, View x, View scale, View shift) {
    ShuffleArgs a = channels_of(y, scale, shift);
    a.y = y.data;
    a.x = x.data;
    a.y_dtype = y.dtype;
    (void)cuda_check(s, shuffle_channels_last(cuda_stream(s)->stream, &a), "to_channels_last");
}

static void to_channels_first(Stream *s, View y, View x, View scale, View shift) {
    ShuffleArgs a = channels_of(x, scale, shift);
    a.y = y.data;
    a.x = x.data;
    a.x_dtype = x.dtype;
    (void)cuda_check(s, shuffle_channels_first(cuda_stream(s)->stream, &a), "to_channels_first");
}

static ShuffleArgs pixels_of(View y, View x, View patched, int p) {
    return (ShuffleArgs){.y = y.data,
            .x = x.data,
            .y_dtype = y.dtype,
            .x_dtype = x.dtype,
            .t = patched.dim[0],
            .h = patched.dim[1],
            .w = patched.dim[2],
            .c = patched.dim[3] / (p * p),
            .p = p};
}

static void vae_patchify(Stream *s, View y, View x, int p) {
    ShuffleArgs a = pixels_of(y, x, y, p);
    (void)cuda_check(s, shuffle_vae_patchify(cuda_stream(s)->stream, &a), "vae_patchify");
}

static void vae_unpatchify(Stream *s, View y, View x, int p) {
    ShuffleArgs a = pixels_of(y, x, x, p);
    (void)cuda_check(s, shuffle_vae_unpatchify(cuda_stream(s)->stream, &a), "vae_unpatchify");
}

void cuda_ops_fill(BackendOps *ops) {
    ops->copy = copy;
    ops->fill = fill;
    ops->linear = cuda_linear;
    ops->geglu = geglu;
    ops->act = act;
    ops->rms_norm = rms_norm;
    ops->layer_norm = layer_norm;
    ops->norm_modulate = norm_modulate;
    ops->add = add;
    ops->add_gated = add_gated;
    ops->norm_rope = norm_rope;
    ops->attention = attention;
    ops->conv = cuda_conv;
    ops->vae_norm = vae_norm;
    ops->avg_down_add = avg_down_add;
    ops->dup_up_add = dup_up_add;
    ops->patchify = patchify;
    ops->unpatchify = unpatchify;
    ops->lincomb = lincomb;
    ops->gather_rows = cuda_gather_rows;
    ops->to_channels_last = to_channels_last;
    ops->to_channels_first = to_channels_first;
    ops->vae_patchify = vae_patchify;
    ops->vae_unpatchify = vae_unpatchify;
    ops->count_nonfinite = count_nonfinite;
}
