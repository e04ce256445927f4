#include "backend/cuda/device.cuh"

/* y = act(x w^T + bias) for a few rows: one warp an output column, bound by reading w. Sums run
 * over the lanes' vectors in order, then over the lanes in a tree: fixed. */

enum { THREADS = 256 };

template <typename TY, typename TX, int ROWS>
__global__ void __launch_bounds__(THREADS)
        rows_kernel(Mat y, Mat x, const bf16 *w, const float *bias, int act) {
    const int64_t n = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (n >= y.n)
        return;
    float sum[ROWS] = {};
    for (int64_t k = lane * 8; k < x.n; k += 32 * 8) {
        float weight[8], v[8];
        load<8>(weight, w + n * x.n + k);
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            load<8>(v, (const TX *)x.data + m * x.stride + k);
#pragma unroll
            for (int j = 0; j < 8; j++)
                sum[m] = fmaf(weight[j], v[j], sum[m]);
        }
    }
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
        float total = warp_sum(sum[m]);
        if (lane == 0)
            ((TY *)y.data)[m * y.stride + n] =
                    from_f32<TY>(activate(total + (bias ? bias[n] : 0.0f), act));
    }
}

template <typename TY, typename TX>
static void rows_launch(cudaStream_t s, Mat y, Mat x, const bf16 *w, const float *bias, int act) {
    unsigned blocks = (unsigned)div_up(y.n, THREADS / 32);
    for (; x.m >= 2; x.m -= 2) {
        rows_kernel<TY, TX, 2><<<blocks, THREADS, 0, s>>>(y, x, w, bias, act);
        x.data = (TX *)x.data + 2 * x.stride;
        y.data = (TY *)y.data + 2 * y.stride;
    }
    if (x.m == 1)
        rows_kernel<TY, TX, 1><<<blocks, THREADS, 0, s>>>(y, x, w, bias, act);
}

cudaError_t gemm_rows(cudaStream_t s, Mat y, Mat x, const void *w, const float *bias, int act) {
    if (x.m > GEMM_ROWS_MAX || !mat_takes_vectors(&x) || !is_aligned16(w))
        return cudaErrorNotSupported;
    if (y.n == 0)
        return cudaSuccess;
    FOR_DTYPE(y.dtype, TY,
            FOR_DTYPE(x.dtype, TX, (rows_launch<TY, TX>(s, y, x, (const bf16 *)w, bias, act))));
    return cudaGetLastError();
}
