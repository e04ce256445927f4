#include "backend/cuda/device.cuh"

/* Attention for every shape and dtype, in f32: one block a query and head. Keys go by in tiles of
 * one key a thread; the output's columns are spread over the threads. For tests, for odd head
 * dimensions and for exact_f32. */

enum { BLOCK = 128, MAX_COLUMNS = 16 };

static __device__ float block_max(float v, float *shared) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = v;
    __syncthreads();
    v = shared[0];
#pragma unroll
    for (int i = 1; i < BLOCK / 32; i++)
        v = fmaxf(v, shared[i]);
    return v;
}

template <typename T>
static __device__ float score(const FlashArgs &a, const float *q, int64_t i, int64_t j, int head) {
    const T *k = (const T *)a.k.data + j * a.k.stride + head * a.head_dim;
    float sum = 0;
    for (int c = 0; c < a.head_dim; c++)
        sum = fmaf(q[c], to_f32(k[c]), sum);
    sum *= a.scale;
    if (a.rel_bias)
        sum += a.rel_bias[(j - i + a.q.m - 1) * a.n_heads + head];
    return j == a.k.m - 1 ? sum + a.last_key_bias : sum;
}

/* Shared memory: the query row, then one weight a key of the tile. */
template <typename T>
__global__ void __launch_bounds__(BLOCK) plain_kernel(FlashArgs a) {
    extern __shared__ float memory[];
    __shared__ float shared[BLOCK / 32];
    const int64_t i = blockIdx.x;
    const int head = blockIdx.y, d = (int)a.head_dim, at = (int)threadIdx.x;
    float *q = memory, *weight = memory + d;
    for (int c = at; c < d; c += BLOCK)
        q[c] = to_f32(((const T *)a.q.data)[i * a.q.stride + head * d + c]);
    __syncthreads();

    float top = -INFINITY, sum = 0, o[MAX_COLUMNS] = {};
    for (int64_t first = 0; first < a.k.m; first += BLOCK) {
        int64_t j = first + at;
        float mine = j < a.k.m ? score<T>(a, q, i, j, head) : -INFINITY;
        float high = fmaxf(top, block_max(mine, shared));
        float fade = top == -INFINITY ? 0.0f : expf(top - high);
        weight[at] = j < a.k.m ? expf(mine - high) : 0.0f;
        sum = sum * fade + row_sum<BLOCK>(weight[at], shared);
        top = high;
        int n = a.k.m - first < BLOCK ? (int)(a.k.m - first) : BLOCK;
#pragma unroll
        for (int c = 0; c < MAX_COLUMNS; c++) {
            int column = c * BLOCK + at;
            if (column >= d)
                break;
            const T *v = (const T *)a.v.data + first * a.v.stride + head * d + column;
            float part = 0;
            for (int k = 0; k < n; k++)
                part = fmaf(weight[k], to_f32(v[k * a.v.stride]), part);
            o[c] = o[c] * fade + part;
        }
        __syncthreads();
    }
#pragma unroll
    for (int c = 0; c < MAX_COLUMNS; c++) {
        int column = c * BLOCK + at;
        if (column < d)
            ((T *)a.o.data)[i * a.o.stride + head * d + column] = from_f32<T>(o[c] / sum);
    }
}

cudaError_t attention_plain(cudaStream_t s, const FlashArgs *a) {
    if (a->q.m == 0)
        return cudaSuccess;
    if (a->head_dim > BLOCK * MAX_COLUMNS)
        return cudaErrorNotSupported;
    dim3 blocks((unsigned)a->q.m, (unsigned)a->n_heads);
    size_t bytes = ((size_t)a->head_dim + BLOCK) * sizeof(float);
    FOR_DTYPE(a->q.dtype, T, (plain_kernel<T><<<blocks, BLOCK, bytes, s>>>(*a)));
    return cudaGetLastError();
}
