#include "backend/cuda/device.cuh"

/* One row a group of THREADS threads. A row of at most MAX_CHUNKS vectors a thread stays in
 * registers between the passes; a longer one is read again (from the L1 cache, mostly). */

enum { MAX_CHUNKS = 4, BLOCK = 128 };

typedef struct NormRow {
    const float *w, *bias;
    float w_plus, mean, r;
    int act;
} NormRow;

template <typename TY, int N>
static __device__ __forceinline__ void finish(
        TY *y, const float v[N], int64_t at, const NormRow &row) {
    float w[N], b[N];
    if (row.w)
        load<N>(w, row.w + at);
    if (row.bias)
        load<N>(b, row.bias + at);
#pragma unroll
    for (int j = 0; j < N; j++) {
        float u = (v[j] - row.mean) * row.r;
        if (row.w)
            u *= w[j] + row.w_plus;
        if (row.bias)
            u += b[j];
        w[j] = activate_for<TY>(u, row.act);
    }
    store<N>(y + at, w);
}

/* CHUNKS: vectors a thread keeps; 0: none. */
template <typename TY, typename TX, int N, int THREADS, int CHUNKS>
__global__ void __launch_bounds__(BLOCK) norm_kernel(NormArgs a) {
    __shared__ float shared[BLOCK / 32];
    const int lane = threadIdx.x % THREADS;
    const int64_t m = (int64_t)blockIdx.x * (BLOCK / THREADS) + threadIdx.x / THREADS;
    if (m >= a.x.m)
        return; /* whole groups only: THREADS is a warp or the block */
    const TX *x = (const TX *)a.x.data + m * a.x.stride;
    TY *y = (TY *)a.y.data + m * a.y.stride;
    const int64_t n = a.x.n;

    constexpr bool KEEP = CHUNKS > 0;
    float kept[KEEP ? CHUNKS : 1][N];
    float sum = 0, squares = 0;
    auto chunk = [&](int64_t at, int c) -> float * {
        float *v = kept[KEEP ? c : 0];
        if (!KEEP)
            load<N>(v, x + at);
        return v;
    };
    auto each = [&](auto body) {
        if constexpr (KEEP) {
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                int64_t at = ((int64_t)c * THREADS + lane) * N;
                if (at < n)
                    body(at, c);
            }
        } else {
            for (int64_t at = (int64_t)lane * N; at < n; at += THREADS * N)
                body(at, 0);
        }
    };

    if constexpr (KEEP)
        each([&](int64_t at, int c) { load<N>(kept[c], x + at); });
    float mean = 0;
    if (a.centred) {
        each([&](int64_t at, int c) {
            const float *v = chunk(at, c);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum += v[j];
        });
        mean = row_sum<THREADS>(sum, shared) / (float)n;
    }
    each([&](int64_t at, int c) {
        const float *v = chunk(at, c);
#pragma unroll
        for (int j = 0; j < N; j++)
            squares = fmaf(v[j] - mean, v[j] - mean, squares);
    });
    squares = row_sum<THREADS>(squares, shared);
    const float r = a.vae ? sqrtf((float)n) / fmaxf(sqrtf(squares), 1e-12f)
                          : 1.0f / sqrtf(squares / (float)n + a.eps);
    const NormRow row = {a.w, a.bias, a.w_plus, mean, r, a.act};
    each([&](int64_t at, int c) { finish<TY, N>(y, chunk(at, c), at, row); });
}

template <typename TY, typename TX, int N>
static void norm_launch(cudaStream_t s, const NormArgs *a) {
    const unsigned m = (unsigned)a->x.m, warps = (m + 3) / 4;
    const int64_t n = a->x.n;
    if (n <= 32 * N)
        norm_kernel<TY, TX, N, 32, 1><<<warps, BLOCK, 0, s>>>(*a);
    else if (n <= 2 * 32 * N)
        norm_kernel<TY, TX, N, 32, 2><<<warps, BLOCK, 0, s>>>(*a);
    else if (n <= MAX_CHUNKS * 32 * N)
        norm_kernel<TY, TX, N, 32, MAX_CHUNKS><<<warps, BLOCK, 0, s>>>(*a);
    else if (n <= (MAX_CHUNKS - 1) * BLOCK * N)
        norm_kernel<TY, TX, N, BLOCK, MAX_CHUNKS - 1><<<m, BLOCK, 0, s>>>(*a);
    else if (n <= MAX_CHUNKS * BLOCK * N)
        norm_kernel<TY, TX, N, BLOCK, MAX_CHUNKS><<<m, BLOCK, 0, s>>>(*a);
    else
        norm_kernel<TY, TX, N, BLOCK, 0><<<m, BLOCK, 0, s>>>(*a);
}

cudaError_t norm_rows(cudaStream_t s, const NormArgs *a) {
    if (a->x.m == 0 || a->x.n == 0)
        return cudaSuccess;
    bool wide = mat_takes_vectors(&a->x) && mat_takes_vectors(&a->y) && is_aligned16(a->w) &&
                is_aligned16(a->bias);
    FOR_DTYPE(a->y.dtype, TY, FOR_DTYPE(a->x.dtype, TX, {
        if (wide)
            norm_launch<TY, TX, 8>(s, a);
        else
            norm_launch<TY, TX, 1>(s, a);
    }));
    return cudaGetLastError();
}
