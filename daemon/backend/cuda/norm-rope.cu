#include "backend/cuda/device.cuh"

/* One row a block. N elements are N / 2 pairs of one head. */

enum { BLOCK = 128, CHUNKS = 4 };

template <typename T, int N, bool KEEP>
__global__ void __launch_bounds__(BLOCK)
        norm_rope_kernel(Mat y, Mat x, const float *w, const float *rope, int head_dim, float eps) {
    __shared__ float shared[BLOCK / 32];
    const int64_t m = blockIdx.x;
    const T *from = (const T *)x.data + m * x.stride;
    T *to = (T *)y.data + m * y.stride;
    const int n = (int)x.n;

    float kept[KEEP ? CHUNKS : 1][N], squares = 0;
    auto each = [&](auto body) {
        if constexpr (KEEP) {
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                int at = (c * BLOCK + (int)threadIdx.x) * N;
                if (at < n)
                    body(at, c);
            }
        } else {
            for (int at = (int)threadIdx.x * N; at < n; at += BLOCK * N)
                body(at, 0);
        }
    };
    each([&](int at, int c) {
        float *v = kept[KEEP ? c : 0];
        load<N>(v, from + at);
#pragma unroll
        for (int j = 0; j < N; j++)
            squares = fmaf(v[j], v[j], squares);
    });
    const float r = 1.0f / sqrtf(row_sum<BLOCK>(squares, shared) / (float)n + eps);
    each([&](int at, int c) {
        float *v = kept[KEEP ? c : 0], weight[N], turn[N];
        if (!KEEP)
            load<N>(v, from + at);
        load<N>(weight, w + at);
#pragma unroll
        for (int j = 0; j < N; j++)
            weight[j] *= v[j] * r;
        if (rope) {
            load<N>(turn, rope + m * head_dim + at % head_dim);
#pragma unroll
            for (int j = 0; j < N; j += 2) {
                float even = weight[j], odd = weight[j + 1];
                weight[j] = even * turn[j] - odd * turn[j + 1];
                weight[j + 1] = even * turn[j + 1] + odd * turn[j];
            }
        }
        store<N>(to + at, weight);
    });
}

template <typename T, int N>
static void norm_rope_launch(cudaStream_t s, Mat y, Mat x, const float *w, const float *rope,
        int64_t head_dim, float eps) {
    unsigned m = (unsigned)x.m;
    if (x.n <= BLOCK * N * CHUNKS)
        norm_rope_kernel<T, N, true><<<m, BLOCK, 0, s>>>(y, x, w, rope, (int)head_dim, eps);
    else
        norm_rope_kernel<T, N, false><<<m, BLOCK, 0, s>>>(y, x, w, rope, (int)head_dim, eps);
}

cudaError_t norm_rope_rows(cudaStream_t s, Mat y, Mat x, const float *w, const float *rope,
        int64_t head_dim, float eps) {
    if (x.m == 0)
        return cudaSuccess;
    bool wide = mat_takes_vectors(&x) && mat_takes_vectors(&y) && head_dim % 8 == 0 &&
                is_aligned16(w) && is_aligned16(rope);
    FOR_DTYPE(x.dtype, T, {
        if (wide)
            norm_rope_launch<T, 8>(s, y, x, w, rope, head_dim, eps);
        else
            norm_rope_launch<T, 2>(s, y, x, w, rope, head_dim, eps);
    });
    return cudaGetLastError();
}
