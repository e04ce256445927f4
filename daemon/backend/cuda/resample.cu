#include "backend/cuda/device.cuh"

/* Shortcuts of the resampling levels, added to y. One thread an element of y. */

enum { THREADS = 256 };

#define EACH(i, n)                                                                                 \
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (n);                         \
            i += (int64_t)gridDim.x * THREADS)

static unsigned blocks_for(int64_t count) {
    int64_t blocks = div_up(count, THREADS);
    return (unsigned)(blocks > (1 << 20) ? 1 << 20 : blocks);
}

/* Where element i of y is. 32-bit divisions: an extent fits, and they are what this costs. */
typedef struct Place {
    int c, x, y, t;
} Place;

static __device__ __forceinline__ Place place_of(const ResampleArgs &a, int64_t i) {
    Place at;
    int64_t pixel = i / a.c;
    at.c = (int)(i - pixel * a.c);
    int64_t row = pixel / a.w;
    at.x = (int)(pixel - row * a.w);
    at.y = (int)row % (int)a.h;
    at.t = (int)row / (int)a.h;
    return at;
}

template <typename T>
__global__ void __launch_bounds__(THREADS) avg_down_kernel(ResampleArgs a, int64_t count) {
    const int folds = a.ft * a.fs * a.fs, group = (int)(a.c_in * folds / a.c);
    const int front = (int)(a.t * a.ft - a.x_t);
    EACH(i, count) {
        Place at = place_of(a, i);
        float sum = 0;
        for (int k = 0; k < group; k++) {
            int e = at.c * group + k, d = e % a.fs, b = e / a.fs % a.fs;
            int f = e / (a.fs * a.fs) % a.ft, c = e / folds, t = at.t * a.ft + f - front;
            if (t < 0)
                continue;
            int64_t row = ((int64_t)t * a.h + at.y) * a.fs + b;
            sum += to_f32(((const T *)a.x)[((row * a.w + at.x) * a.fs + d) * a.c_in + c]);
        }
        T *y = (T *)a.y + i;
        *y = from_f32<T>(to_f32(*y) + sum / (float)group);
    }
}

/* Rows are ((t h + y) fs + b) and pixels ((row w + x) fs + d): the extents of x are fs h, fs w. */
cudaError_t resample_avg_down(cudaStream_t s, const ResampleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(a->dtype, T, (avg_down_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(*a, count)));
    return cudaGetLastError();
}

/* N neighbouring channels of one pixel a thread. */
template <typename T, int N>
__global__ void __launch_bounds__(THREADS) dup_up_kernel(ResampleArgs a, int64_t count) {
    const int folds = a.ft * a.fs * a.fs, repeats = (int)(a.c * folds / a.c_in);
    const int dropped = (int)(a.x_t * a.ft - a.t), h = (int)a.h / a.fs, w = (int)a.w / a.fs;
    EACH(i, count) {
        const Place at = place_of(a, i * N);
        const int t = at.t + dropped;
        const int fold = (t % a.ft * a.fs + at.y % a.fs) * a.fs + at.x % a.fs;
        const int64_t pixel = ((int64_t)(t / a.ft) * h + at.y / a.fs) * w + at.x / a.fs;
        const T *x = (const T *)a.x + pixel * a.c_in;
        float v[N];
        load<N>(v, (const T *)a.y + i * N);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] += to_f32(x[((at.c + j) * folds + fold) / repeats]);
        store<N>((T *)a.y + i * N, v);
    }
}

cudaError_t resample_dup_up(cudaStream_t s, const ResampleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c;
    if (count == 0)
        return cudaSuccess;
    const bool wide = a->c % 8 == 0 && is_aligned16(a->y);
    const int64_t vectors = wide ? count / 8 : count;
    FOR_DTYPE(a->dtype, T, {
        if (wide)
            dup_up_kernel<T, 8><<<blocks_for(vectors), THREADS, 0, s>>>(*a, vectors);
        else
            dup_up_kernel<T, 1><<<blocks_for(vectors), THREADS, 0, s>>>(*a, vectors);
    });
    return cudaGetLastError();
}
