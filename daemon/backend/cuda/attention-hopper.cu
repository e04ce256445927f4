#include "backend/cuda/hopper.cuh"

/* Flash attention of head dimension 128 on the warpgroup-wide matrix unit.
 *
 * A block takes 128 queries of one head: two warpgroups multiply, 64 queries each, a third brings
 * keys and values in tiles of BN through two stages. Two blocks that follow each other in the
 * queries form a pair: each brings one half of the columns of every tile, to both. While the values
 * of one tile are multiplied, the scores of the next become weights, and the two warpgroups take
 * turns so that one multiplies while the other exponentiates. Tiles go from the last to the first:
 * only the last has keys beyond the end, or the key that stands for several. */

enum { D = 128, BM = 128, STAGES = 2, THREADS = 3 * WARPGROUP, TURNS = 1 };

typedef struct Shape {
    bf16 *o;
    int64_t o_stride;
    int tq, tk;
    float scale, last_key_score; /* the bias of the last key in units of unscaled scores */
} Shape;

template <int BN>
struct Plan {
    static constexpr uint32_t QUERY_HALF = BM * ROW_BYTES, QUERIES = 2 * QUERY_HALF;
    static constexpr uint32_t HALF = BN * ROW_BYTES, TILE = 2 * HALF;
    static constexpr uint32_t KEYS = QUERIES, VALUES = KEYS + STAGES * TILE;
    static constexpr uint32_t BARRIERS = VALUES + STAGES * TILE;
    static constexpr uint32_t BYTES = BARRIERS + 128 + 1024; /* the base is aligned by hand */
};

/* Barriers, eight bytes each. */
enum {
    QUERIES_FULL,
    KEYS_FULL,
    KEYS_FREE = KEYS_FULL + STAGES,
    VALUES_FULL = KEYS_FREE + STAGES,
    VALUES_FREE = VALUES_FULL + STAGES,
    N_BARRIERS = VALUES_FREE + STAGES
};

static __device__ __forceinline__ uint32_t barrier_at(uint32_t first, int which, int stage) {
    return first + (uint32_t)(which + stage) * 8;
}

template <int BN>
static __device__ __forceinline__ void bring(uint32_t base, const CUtensorMap *q,
        const CUtensorMap *k, const CUtensorMap *v, int n_tiles) {
    typedef Plan<BN> P;
    const uint32_t barriers = base + P::BARRIERS, rank = cluster_rank();
    const int column = (int)blockIdx.y * D, mine = column + (int)rank * 64;
    barrier_expect(barrier_at(barriers, QUERIES_FULL, 0), P::QUERIES);
    for (int half = 0; half < 2; half++)
        box2(base + (uint32_t)half * P::QUERY_HALF, q, column + half * 64, (int)blockIdx.x * BM,
                barrier_at(barriers, QUERIES_FULL, 0));
    for (int i = 0; i < n_tiles; i++) {
        const int stage = i % STAGES, row = (n_tiles - 1 - i) * BN;
        const uint32_t parity = (uint32_t)(i / STAGES) & 1, at = (uint32_t)stage * P::TILE;
        barrier_wait(barrier_at(barriers, KEYS_FREE, stage), parity ^ 1);
        barrier_expect(barrier_at(barriers, KEYS_FULL, stage), P::TILE);
        box2_pair(base + P::KEYS + at + rank * P::HALF, k, mine, row,
                barrier_at(barriers, KEYS_FULL, stage));
        barrier_wait(barrier_at(barriers, VALUES_FREE, stage), parity ^ 1);
        barrier_expect(barrier_at(barriers, VALUES_FULL, stage), P::TILE);
        box2_pair(base + P::VALUES + at + rank * P::HALF, v, mine, row,
                barrier_at(barriers, VALUES_FULL, stage));
    }
}

/* A stage is free again when both warpgroups of both blocks are done with it. */
static __device__ __forceinline__ void release(uint32_t barrier) {
    if (threadIdx.x % WARPGROUP < 2)
        barrier_arrive_at(barrier, threadIdx.x % WARPGROUP);
}

template <int BN>
static __device__ __forceinline__ void multiply_keys(float s[BN / 2], uint32_t q, uint32_t k) {
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        const uint32_t half = (uint32_t)step / 4, within = (uint32_t)step % 4 * 32;
        multiply<BN>(s, descriptor_rows(q + half * Plan<BN>::QUERY_HALF + within),
                descriptor_rows(k + half * Plan<BN>::HALF + within), step > 0);
    }
    wgmma_commit();
}

template <int BN>
static __device__ __forceinline__ void multiply_values(
        float o[D / 2], const uint32_t p[BN / 16][4], uint32_t v) {
#pragma unroll
    for (int step = 0; step < BN / 16; step++)
        multiply_from_registers<D>(o, p[step],
                descriptor_columns(v + (uint32_t)step * 2 * GROUP_BYTES, Plan<BN>::HALF), 1);
    wgmma_commit();
}

template <int BN>
static __device__ __forceinline__ void mask(float s[BN / 2], const Shape &a, int first) {
    const int column = first + (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < BN / 2; i++) {
        int key = column + i / 4 * 8 + i % 2;
        if (key == a.tk - 1)
            s[i] += a.last_key_score;
        if (key >= a.tk)
            s[i] = -INFINITY;
    }
}

static __device__ __forceinline__ float exp2_of(float v) {
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(v));
    return e;
}

/* Scores to weights under the new maximum; fade: what the old sums are worth under it. */
template <int BN>
static __device__ __forceinline__ void soften(
        float s[BN / 2], float top[2], float sum[2], float fade[2], float scale) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float high = top[h];
#pragma unroll
        for (int i = 0; i < BN / 8; i++)
            high = fmaxf(high, fmaxf(s[4 * i + 2 * h], s[4 * i + 2 * h + 1]));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
        fade[h] = exp2_of((top[h] - high) * scale);
        top[h] = high;
        const float offset = high * scale;
        float part = 0;
#pragma unroll
        for (int i = 0; i < BN / 8; i++) {
            float &a = s[4 * i + 2 * h], &b = s[4 * i + 2 * h + 1];
            a = exp2_of(fmaf(a, scale, -offset));
            b = exp2_of(fmaf(b, scale, -offset));
            part += a + b;
        }
        sum[h] = sum[h] * fade[h] + part;
    }
}

template <int BN>
static __device__ __forceinline__ void round_weights(
        uint32_t p[BN / 16][4], const float s[BN / 2]) {
#pragma unroll
    for (int step = 0; step < BN / 16; step++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[step][i] = pack_bf16(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
}

static __device__ __forceinline__ void write_rows(
        const Shape &a, const float o[D / 2], const float sum[2], int first) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float total = sum[h];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        const float r = 1.0f / total;
        const int row = first + warp * 16 + lane / 4 + h * 8;
        if (row >= a.tq)
            continue;
        bf16 *to = a.o + row * a.o_stride + (int64_t)blockIdx.y * D + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            *(uint32_t *)(to + i * 8) = pack_bf16(o[4 * i + 2 * h] * r, o[4 * i + 2 * h + 1] * r);
    }
}

template <int BN>
static __device__ __forceinline__ void compute(uint32_t base, const Shape &a, int n_tiles) {
    typedef Plan<BN> P;
    const uint32_t barriers = base + P::BARRIERS;
    const int group = threadIdx.x / WARPGROUP; /* 0 or 1 */
    const uint32_t q = base + (uint32_t)group * 64 * ROW_BYTES;
    const float scale = a.scale * 1.4426950408889634f;
    float s[BN / 2], o[D / 2], top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, fade[2];
    uint32_t p[BN / 16][4];
#pragma unroll
    for (int i = 0; i < D / 2; i++)
        o[i] = 0;

    if (group == 1)
        turn_give(TURNS);
    barrier_wait(barrier_at(barriers, QUERIES_FULL, 0), 0);
    barrier_wait(barrier_at(barriers, KEYS_FULL, 0), 0);
    turn_wait(TURNS + group);
    wgmma_fence();
    multiply_keys<BN>(s, q, base + P::KEYS);
    turn_give(TURNS + (group ^ 1));
    wgmma_wait<0>();
    release(barrier_at(barriers, KEYS_FREE, 0));
    mask<BN>(s, a, (n_tiles - 1) * BN);
    soften<BN>(s, top, sum, fade, scale);
    round_weights<BN>(p, s);

    for (int i = 1; i < n_tiles; i++) {
        const int stage = i % STAGES, before = (i - 1) % STAGES;
        barrier_wait(barrier_at(barriers, KEYS_FULL, stage), (uint32_t)(i / STAGES) & 1);
        turn_wait(TURNS + group);
        wgmma_fence();
        multiply_keys<BN>(s, q, base + P::KEYS + (uint32_t)stage * P::TILE);
        barrier_wait(barrier_at(barriers, VALUES_FULL, before), (uint32_t)((i - 1) / STAGES) & 1);
        multiply_values<BN>(o, p, base + P::VALUES + (uint32_t)before * P::TILE);
        turn_give(TURNS + (group ^ 1));
        wgmma_wait<1>();
        release(barrier_at(barriers, KEYS_FREE, stage));
        soften<BN>(s, top, sum, fade, scale);
        wgmma_wait<0>();
        release(barrier_at(barriers, VALUES_FREE, before));
#pragma unroll
        for (int c = 0; c < D / 2; c++)
            o[c] *= fade[c / 2 % 2];
        round_weights<BN>(p, s);
    }

    const int last = (n_tiles - 1) % STAGES;
    barrier_wait(barrier_at(barriers, VALUES_FULL, last), (uint32_t)((n_tiles - 1) / STAGES) & 1);
    wgmma_fence();
    multiply_values<BN>(o, p, base + P::VALUES + (uint32_t)last * P::TILE);
    wgmma_wait<0>();
    release(barrier_at(barriers, VALUES_FREE, last));
    if (group == 0)
        turn_wait(TURNS); /* takes the turn that the other one gave last */
    write_rows(a, o, sum, (int)blockIdx.x * BM + group * 64);
}

template <int BN>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS, 1)
        hopper_kernel(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                const __grid_constant__ CUtensorMap v, Shape a) {
    extern __shared__ unsigned char memory[];
    const uint32_t base = (shared_address(memory) + 1023) & ~1023u;
    const uint32_t barriers = base + Plan<BN>::BARRIERS;
    const int n_tiles = (a.tk + BN - 1) / BN;
    if (threadIdx.x == 0) {
        barrier_init(barrier_at(barriers, QUERIES_FULL, 0), 1);
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(barrier_at(barriers, KEYS_FULL, stage), 1);
            barrier_init(barrier_at(barriers, VALUES_FULL, stage), 1);
            barrier_init(barrier_at(barriers, KEYS_FREE, stage), 4);
            barrier_init(barrier_at(barriers, VALUES_FREE, stage), 4);
        }
        barrier_init_visible();
    }
    cluster_sync();
    if (threadIdx.x >= 2 * WARPGROUP) {
        registers_give<24>();
        if (threadIdx.x == 2 * WARPGROUP)
            bring<BN>(base, &q, &k, &v, n_tiles);
    } else {
        registers_take<240>();
        compute<BN>(base, a, n_tiles);
    }
    __syncwarp();
    cluster_sync(); /* the other block may still write here */
}

static CUresult map_of(TensorMapEncode encode, CUtensorMap *map, const Mat *m, unsigned rows) {
    cuuint64_t dim[2] = {(cuuint64_t)m->n, (cuuint64_t)m->m};
    cuuint64_t stride[1] = {(cuuint64_t)m->stride * 2};
    cuuint32_t box[2] = {64, rows}, step[2] = {1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, m->data, dim, stride, box, step,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

template <int BN>
static cudaError_t launch(cudaStream_t s, TensorMapEncode encode, const FlashArgs *a) {
    CUtensorMap q, k, v;
    if (map_of(encode, &q, &a->q, BM) != CUDA_SUCCESS ||
            map_of(encode, &k, &a->k, BN) != CUDA_SUCCESS ||
            map_of(encode, &v, &a->v, BN) != CUDA_SUCCESS)
        return cudaErrorNotSupported;
    Shape shape = {(bf16 *)a->o.data, a->o.stride, (int)a->q.m, (int)a->k.m, a->scale,
            a->last_key_bias / a->scale};
    cudaError_t e = cudaFuncSetAttribute(
            hopper_kernel<BN>, cudaFuncAttributeMaxDynamicSharedMemorySize, Plan<BN>::BYTES);
    if (e != cudaSuccess)
        return e;
    dim3 blocks((unsigned)(div_up(a->q.m, 2 * BM) * 2), (unsigned)a->n_heads);
    hopper_kernel<BN><<<blocks, THREADS, Plan<BN>::BYTES, s>>>(q, k, v, shape);
    return cudaGetLastError();
}

static bool takes_tensor_maps(const Mat *m) {
    return m->dtype == DTYPE_BF16 && is_aligned16(m->data) && m->stride % 8 == 0 &&
           m->m < (1 << 30);
}

cudaError_t attention_hopper(cudaStream_t s, TensorMapEncode encode, const FlashArgs *a) {
    if (a->head_dim != D || a->rel_bias || !(a->scale > 0) || !takes_tensor_maps(&a->q) ||
            !takes_tensor_maps(&a->k) || !takes_tensor_maps(&a->v) || !takes_tensor_maps(&a->o))
        return cudaErrorNotSupported;
    if (a->q.m == 0)
        return cudaSuccess;
    return a->k.m <= 512 ? launch<128>(s, encode, a) : launch<176>(s, encode, a);
}
