#include "backend/cuda/device.cuh"

/* Checkpoint elements to the dtypes and orders that the other kernels read. */

enum { THREADS = 256 };

template <typename TY, typename TX>
__global__ void __launch_bounds__(THREADS) convert_kernel(TY *y, const TX *x, int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
            i += (int64_t)gridDim.x * THREADS)
        y[i] = from_f32<TY>(to_f32(x[i]));
}

/* Reads with a stride of `taps` that the caches absorb: 27 taps of a channel share its lines. */
template <typename TY, typename TX>
__global__ void __launch_bounds__(THREADS)
        pack_kernel(TY *y, const TX *x, int64_t c, int64_t taps, int64_t count) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
            i += (int64_t)gridDim.x * THREADS) {
        int64_t channel = i % c, tap = i / c % taps, out = i / (c * taps);
        y[i] = from_f32<TY>(to_f32(x[(out * c + channel) * taps + tap]));
    }
}

static unsigned blocks_for(int64_t count) {
    int64_t blocks = div_up(count, THREADS);
    return (unsigned)(blocks > 8192 ? 8192 : blocks);
}

template <typename TY>
static void convert_from(cudaStream_t s, void *y, const void *x, DType x_dtype, int64_t count) {
    unsigned blocks = blocks_for(count);
    if (x_dtype == DTYPE_F32)
        convert_kernel<<<blocks, THREADS, 0, s>>>((TY *)y, (const float *)x, count);
    else if (x_dtype == DTYPE_BF16)
        convert_kernel<<<blocks, THREADS, 0, s>>>((TY *)y, (const bf16 *)x, count);
    else
        convert_kernel<<<blocks, THREADS, 0, s>>>((TY *)y, (const __half *)x, count);
}

cudaError_t weights_convert(
        cudaStream_t s, void *y, DType y_dtype, const void *x, DType x_dtype, int64_t count) {
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(y_dtype, TY, convert_from<TY>(s, y, x, x_dtype, count));
    return cudaGetLastError();
}

template <typename TY>
static void pack_from(cudaStream_t s, void *y, const void *x, DType x_dtype, int64_t c,
        int64_t taps, int64_t count) {
    unsigned blocks = blocks_for(count);
    if (x_dtype == DTYPE_F32)
        pack_kernel<<<blocks, THREADS, 0, s>>>((TY *)y, (const float *)x, c, taps, count);
    else if (x_dtype == DTYPE_BF16)
        pack_kernel<<<blocks, THREADS, 0, s>>>((TY *)y, (const bf16 *)x, c, taps, count);
    else
        pack_kernel<<<blocks, THREADS, 0, s>>>((TY *)y, (const __half *)x, c, taps, count);
}

cudaError_t weights_pack_conv(cudaStream_t s, void *y, DType y_dtype, const void *x, DType x_dtype,
        int64_t n, int64_t c, int64_t taps) {
    int64_t count = n * c * taps;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(y_dtype, TY, pack_from<TY>(s, y, x, x_dtype, c, taps, count));
    return cudaGetLastError();
}
