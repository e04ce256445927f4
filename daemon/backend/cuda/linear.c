#include "backend/cuda/cuda-impl.h"
#include "backend/cuda/lt.h"

#include <errno.h>

static_assert((int)ACT_NONE == KERNEL_ACT_NONE && (int)ACT_SILU == KERNEL_ACT_SILU &&
                      (int)ACT_GELU_TANH == KERNEL_ACT_GELU_TANH,
        "kernels.h and ops.h number the activations alike");

/* Parts of the scratch in a product. */
#define BIAS_OFFSET ((size_t)LT_WORKSPACE_BYTES)
#define ROUNDED_OFFSET (BIAS_OFFSET + ((size_t)1 << 20))
#define ROUNDED_BYTES (SCRATCH_BYTES - ROUNDED_OFFSET)

static Mat mat_of(View v) {
    return (Mat){.data = v.data,
            .dtype = v.dtype,
            .m = v.dim[0],
            .n = v.dim[1],
            .stride = v.dim[0] == 1 ? v.dim[1] : v.stride[0]};
}

static IgemmArgs igemm_of(Mat y, Mat x, const void *w, const float *bias, int act) {
    return (IgemmArgs){.y = y.data,
            .x = x.data,
            .w = w,
            .bias = bias,
            .in = x.dtype,
            .out = y.dtype,
            .act = act,
            .t_out = 1,
            .h_out = 1,
            .w_out = y.m,
            .n = y.n,
            .t = 1,
            .h = 1,
            .w_in = x.m,
            .c = x.n,
            .x_pixel = x.stride,
            .y_pixel = y.stride,
            .kt = 1,
            .kh = 1,
            .kw = 1,
            .stride_t = 1,
            .stride_s = 1,
            .up = 1};
}

/* The project's own kernels: no library, or no alignment that it takes. */
static cudaError_t product_own(
        cudaStream_t s, Mat y, Mat x, const void *w, const float *bias, int act) {
    IgemmArgs a = igemm_of(y, x, w, bias, act);
    cudaError_t e = igemm_mma(s, &a);
    return e == cudaErrorNotSupported ? igemm_plain(s, &a) : e;
}

/* Through the library; its epilogue takes a bias of y's dtype and knows no SiLU. */
static int product_lt(Stream *s, Mat y, Mat x, const void *w, const float *bias, int act) {
    CudaBackend *b = cuda_backend(s->backend);
    cudaStream_t stream = cuda_stream(s)->stream;
    char *scratch = cuda_scratch(s);
    if (!scratch)
        return -ENOMEM;
    LtProduct p = {.y = y.data,
            .x = x.data,
            .w = w,
            .bias = bias,
            .m = y.m,
            .n = y.n,
            .k = x.n,
            .y_stride = y.stride,
            .x_stride = x.stride,
            .out = y.dtype,
            .gelu = act == KERNEL_ACT_GELU_TANH};
    if (bias && y.dtype == DTYPE_BF16) {
        if ((size_t)y.n * 2 > ROUNDED_OFFSET - BIAS_OFFSET)
            return -ENOTSUP;
        p.bias = scratch + BIAS_OFFSET;
        cudaError_t e =
                weights_convert(stream, scratch + BIAS_OFFSET, DTYPE_BF16, bias, DTYPE_F32, y.n);
        if (e != cudaSuccess)
            return cuda_errno(e);
    }
    int r = lt_product(b->lt, stream, &p, scratch);
    if (r == 0 && act == KERNEL_ACT_SILU)
        r = cuda_errno(pointwise_act(stream, y, y, act));
    return r;
}

static void product_bf16(Stream *s, Mat y, Mat x, const void *w, const float *bias, int act) {
    CudaBackend *b = cuda_backend(s->backend);
    if (b->hopper && s->hurried) {
        cudaError_t e = gemm_hopper(cuda_stream(s)->stream, b->driver.encode, y, x, w, bias, act);
        if (e != cudaErrorNotSupported) {
            (void)cuda_check(s, e, "linear");
            return;
        }
    }
    if (b->lt) {
        int r = product_lt(s, y, x, w, bias, act);
        if (r == 0)
            return;
        if (r != -ENOTSUP) {
            stream_fail(s, r, "linear: product [%lld,%lld] x [%lld,%lld] failed", (long long)x.m,
                    (long long)x.n, (long long)y.n, (long long)x.n);
            return;
        }
    }
    (void)cuda_check(s, product_own(cuda_stream(s)->stream, y, x, w, bias, act), "linear");
}

/* Rows in f32 for tensor cores: rounded piece by piece. */
static void product_f32(Stream *s, Mat y, Mat x, const void *w, const float *bias, int act) {
    char *scratch = cuda_scratch(s);
    int64_t at_once = x.n > 0 ? (int64_t)(ROUNDED_BYTES / 2) / x.n : 0;
    if (!scratch)
        return;
    if (at_once == 0) {
        stream_fail(s, -ENOTSUP, "linear: rows of %lld f32 values", (long long)x.n);
        return;
    }
    Mat rounded = {.data = scratch + ROUNDED_OFFSET, .dtype = DTYPE_BF16, .n = x.n, .stride = x.n};
    for (int64_t first = 0; first < x.m && stream_is_live(s); first += at_once) {
        Mat to = y;
        to.m = rounded.m = MIN(at_once, x.m - first);
        to.data = (char *)y.data + (size_t)(first * y.stride) * dtype_bytes(y.dtype);
        Grid narrow = {rounded.data, DTYPE_BF16, {1, 1, 1, rounded.m, x.n}, {0, 0, 0, x.n, 1}};
        Grid wide = {(float *)x.data + first * x.stride, DTYPE_F32, {1, 1, 1, rounded.m, x.n},
                {0, 0, 0, x.stride, 1}};
        if (cuda_check(s, pointwise_copy(cuda_stream(s)->stream, narrow, wide), "linear"))
            product_bf16(s, to, rounded, w, bias, act);
    }
}

void cuda_linear(Stream *s, View y, View x, View w, View bias, Activation act) {
    cudaStream_t stream = cuda_stream(s)->stream;
    Mat to = mat_of(y), from = mat_of(x);
    const float *b = bias.data;
    if (to.m == 0 || to.n == 0)
        return;
    if (cuda_backend(s->backend)->exact) {
        IgemmArgs a = igemm_of(to, from, w.data, b, (int)act);
        (void)cuda_check(s, igemm_plain(stream, &a), "linear");
        return;
    }
    cudaError_t e = gemm_rows(stream, to, from, w.data, b, (int)act);
    if (e != cudaErrorNotSupported)
        (void)cuda_check(s, e, "linear");
    else if (x.dtype == DTYPE_F32)
        product_f32(s, to, from, w.data, b, (int)act);
    else
        product_bf16(s, to, from, w.data, b, (int)act);
}

void cuda_conv(Stream *s, const ConvArgs *a) {
    CudaBackend *b = cuda_backend(s->backend);
    cudaStream_t stream = cuda_stream(s)->stream;
    bool video = a->w.rank == 5;
    IgemmArgs g = {.y = a->y.data,
            .x = a->x.data,
            .prev = a->prev.data,
            .w = a->w.data,
            .bias = a->bias.data,
            .add = a->add.data,
            .in = a->x.dtype,
            .out = a->y.dtype,
            .t_out = a->y.dim[0],
            .h_out = a->y.dim[1],
            .w_out = a->y.dim[2],
            .n = a->y.dim[3],
            .t = a->x.dim[0],
            .h = a->x.dim[1],
            .w_in = a->x.dim[2],
            .c = a->x.dim[3],
            .x_pixel = a->x.dim[3],
            .x_frame = a->x.stride[0],
            .prev_frame = view_is_null(a->prev) ? 0 : a->prev.stride[0],
            .y_pixel = a->y.dim[3],
            .y_frame = a->y.stride[0],
            .add_frame = view_is_null(a->add) ? 0 : a->add.stride[0],
            .n_zero = a->zero_frames,
            .n_prev = view_is_null(a->prev) ? 0 : (int)a->prev.dim[0],
            .kt = video ? (int)a->w.dim[2] : 1,
            .kh = (int)a->w.dim[a->w.rank - 2],
            .kw = (int)a->w.dim[a->w.rank - 1],
            .stride_t = a->stride_t,
            .stride_s = a->stride_s,
            .pad = a->pad_lo,
            .up = a->upsample ? 2 : 1};
    cudaError_t e = cudaErrorNotSupported;
    if (b->hopper && !b->exact) {
        void *scratch = cuda_scratch(s);
        if (!scratch)
            return;
        e = conv_hopper(stream, b->driver.encode, &g, scratch, SCRATCH_BYTES);
    }
    if (e == cudaErrorNotSupported && !b->exact)
        e = igemm_mma(stream, &g);
    if (e == cudaErrorNotSupported)
        e = igemm_plain(stream, &g);
    (void)cuda_check(s, e, "conv");
}
