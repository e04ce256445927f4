/* kernels - what the .cu files offer to the C side: one launcher a kernel family.
 *
 * Launchers queue work on a stream and return what cudaGetLastError() said of the launch. They
 * choose between vector and scalar forms by alignment; arguments are valid (ops.c of the room
 * backend has asserted them). Compiled as C and as CUDA C++. */
#ifndef PREHEAT_BACKEND_CUDA_KERNELS_H
#define PREHEAT_BACKEND_CUDA_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

#include "tensor/dtype.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

/* A matrix with dense rows; stride in elements. */
typedef struct Mat {
    void *data;
    DType dtype;
    int64_t m, n, stride;
} Mat;

/* Up to five axes, outermost first, strides in elements. */
typedef struct Grid {
    void *data;
    DType dtype;
    int64_t dim[5], stride[5];
} Grid;

/* Same values as Activation in backend/ops.h (asserted in ops.c). */
enum { KERNEL_ACT_NONE, KERNEL_ACT_SILU, KERNEL_ACT_GELU_TANH };

/* pointwise.cu */
cudaError_t pointwise_copy(cudaStream_t s, Grid y, Grid x);
cudaError_t pointwise_fill(cudaStream_t s, Grid y, float value);
cudaError_t pointwise_geglu(cudaStream_t s, Mat y, Mat gate, Mat up);
cudaError_t pointwise_act(cudaStream_t s, Mat y, Mat x, int act);
cudaError_t pointwise_add(cudaStream_t s, Mat x, Mat h, const float *gate);
cudaError_t pointwise_lincomb(
        cudaStream_t s, float *y, int n, const float *const x[], const float a[], int64_t count);
cudaError_t pointwise_count_nonfinite(cudaStream_t s, int32_t *y, const float *x, int64_t count);

/* norm.cu: y = act((x - mean) * r * (w + w_plus) + bias), mean 0 unless centred. */
typedef struct NormArgs {
    Mat y, x;
    const float *w, *bias; /* either may be NULL */
    float w_plus;
    float eps;
    bool centred;
    bool vae; /* r = sqrt(n) / max(|x|, 1e-12) instead of 1 / sqrt(mean of squares + eps) */
    int act;
} NormArgs;
cudaError_t norm_rows(cudaStream_t s, const NormArgs *a);

/* norm-rope.cu */
cudaError_t norm_rope_rows(cudaStream_t s, Mat y, Mat x, const float *w, const float *rope,
        int64_t head_dim, float eps);

/* attention*.cu; all four matrices in one dtype. */
typedef struct FlashArgs {
    Mat o, q, k, v;
    int64_t n_heads, head_dim;
    float scale, last_key_bias;
    const float *rel_bias; /* [tq + tk - 1, heads] or NULL */
} FlashArgs;
cudaError_t attention_plain(cudaStream_t s, const FlashArgs *a); /* any shape, f32 or bf16 */
cudaError_t attention_mma(cudaStream_t s, const FlashArgs *a);   /* bf16, head_dim % 8 == 0 */
cudaError_t attention_wide(cudaStream_t s, const FlashArgs *a);  /* bf16, head_dim % 8 == 0 */

/* Tensor maps for the bulk copy engine are made through the driver. */
typedef CUresult (*TensorMapEncode)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
        const cuuint64_t *, const cuuint64_t *, const cuuint32_t *, const cuuint32_t *,
        CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* Implicit matrix product of convolutions and, with one tap, of plain matrices:
 * y[t', y', x', o] = act(sum over taps and channels + bias[o]) + add. Strides in elements. */
typedef struct IgemmArgs {
    void *y;
    const void *x, *prev, *w, *add; /* w [n, kt, kh, kw, c] dense; prev and add may be NULL */
    const float *bias;              /* or NULL */
    DType in, out;                  /* in: x, prev, w; out: y, add */
    int act;
    int64_t t_out, h_out, w_out, n;
    int64_t t, h, w_in, c;
    int64_t x_pixel, x_frame, prev_frame; /* a frame's rows are dense in pixels */
    int64_t y_pixel, y_frame, add_frame;
    int n_zero, n_prev;
    int kt, kh, kw;
    int stride_t, stride_s, pad;
    int up; /* 1, or 2: the input is read at half the coordinates */
} IgemmArgs;
cudaError_t igemm_plain(cudaStream_t s, const IgemmArgs *a); /* any shape, in f32 or bf16 */
cudaError_t igemm_mma(cudaStream_t s, const IgemmArgs *a);   /* bf16, c and x_pixel % 8 == 0 */

/* gemm-rows.cu: y = act(x w^T + bias) for m <= GEMM_ROWS_MAX, w bf16, k % 8 == 0. */
enum { GEMM_ROWS_MAX = 8 };
cudaError_t gemm_rows(cudaStream_t s, Mat y, Mat x, const void *w, const float *bias, int act);

/* weights.cu */
cudaError_t weights_convert(
        cudaStream_t s, void *y, DType y_dtype, const void *x, DType x_dtype, int64_t count);
/* y[o, tap, c] = x[o, c, tap] */
cudaError_t weights_pack_conv(cudaStream_t s, void *y, DType y_dtype, const void *x, DType x_dtype,
        int64_t n, int64_t c, int64_t taps);

/* shuffle.cu: layouts. Videos and tokens in `dtype`, latents and pixels in f32. */
typedef struct ShuffleArgs {
    void *y;
    const void *x;
    DType y_dtype, x_dtype;
    const float *scale, *shift;
    int64_t t, h, w, c; /* extents of the smaller grid: tokens, channels-last or patched */
    int64_t stride[3];  /* of the channels-last side: frame, row, pixel */
    int p;
} ShuffleArgs;
cudaError_t shuffle_patchify(cudaStream_t s, const ShuffleArgs *a);
cudaError_t shuffle_unpatchify(cudaStream_t s, const ShuffleArgs *a);
cudaError_t shuffle_channels_last(cudaStream_t s, const ShuffleArgs *a);
cudaError_t shuffle_channels_first(cudaStream_t s, const ShuffleArgs *a);
cudaError_t shuffle_vae_patchify(cudaStream_t s, const ShuffleArgs *a);
cudaError_t shuffle_vae_unpatchify(cudaStream_t s, const ShuffleArgs *a);

/* resample.cu: the shortcuts of op_avg_down_add and op_dup_up_add, all of one dtype. */
typedef struct ResampleArgs {
    void *y;
    const void *x;
    DType dtype;
    int64_t t, h, w, c; /* of y */
    int64_t x_t, c_in;  /* of x; its rows and columns follow from fs */
    int ft, fs;
} ResampleArgs;
cudaError_t resample_avg_down(cudaStream_t s, const ResampleArgs *a);
cudaError_t resample_dup_up(cudaStream_t s, const ResampleArgs *a);

/* attention-hopper.cu, conv-hopper.cu and gemm-hopper.cu, or attention-none.c, conv-none.c and
 * gemm-none.c: kernels for compute capability 9.0 alone. Each returns cudaErrorNotSupported, with
 * nothing queued, for a shape that it does not take. */
cudaError_t attention_hopper(cudaStream_t s, TensorMapEncode encode, const FlashArgs *a);
cudaError_t conv_hopper(
        cudaStream_t s, TensorMapEncode encode, const IgemmArgs *a, void *scratch, size_t bytes);
cudaError_t gemm_hopper(cudaStream_t s, TensorMapEncode encode, Mat y, Mat x, const void *w,
        const float *bias, int act);

#ifdef __cplusplus
}
#endif
#endif
