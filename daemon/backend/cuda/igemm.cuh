/* igemm - where the elements of a convolution's implicit matrices are. */
#ifndef PREHEAT_BACKEND_CUDA_IGEMM_CUH
#define PREHEAT_BACKEND_CUDA_IGEMM_CUH

#include "backend/cuda/device.cuh"

/* One row of the left matrix: an output position and the corner of its window in the input. */
typedef struct IgemmRow {
    int f, y, x; /* f counts from the first frame of zeros */
    bool there;
} IgemmRow;

static __device__ __forceinline__ IgemmRow igemm_row(const IgemmArgs &a, int64_t m) {
    IgemmRow r;
    int64_t row = m / a.w_out;
    int x = (int)(m - row * a.w_out), t = (int)(row / a.h_out);
    r.there = t < a.t_out;
    r.f = t * a.stride_t;
    r.y = (int)(row - t * a.h_out) * a.stride_s - a.pad;
    r.x = x * a.stride_s - a.pad;
    return r;
}

/* The pixel under tap (i, j, k) of the window, or NULL where there are zeros. */
template <typename T>
static __device__ __forceinline__ const T *igemm_pixel(
        const IgemmArgs &a, const IgemmRow &r, int i, int j, int k) {
    int f = r.f + i - a.n_zero, y = r.y + j, x = r.x + k;
    if (!r.there || f < 0 || y < 0 || x < 0 || y >= a.up * (int)a.h || x >= a.up * (int)a.w_in)
        return nullptr;
    if (a.up == 2) {
        y >>= 1;
        x >>= 1;
    }
    int64_t pixel = (int64_t)y * a.w_in + x;
    return f < a.n_prev ? (const T *)a.prev + f * a.prev_frame + pixel * a.c
                        : (const T *)a.x + (f - a.n_prev) * a.x_frame + pixel * a.x_pixel;
}

/* Element 0 of the output (or of `add`) at row m. */
static __device__ __forceinline__ int64_t igemm_output(
        const IgemmArgs &a, int64_t m, int64_t frame_stride) {
    int64_t pixels = a.h_out * a.w_out, t = m / pixels;
    return t * frame_stride + (m - t * pixels) * a.y_pixel;
}

#endif
