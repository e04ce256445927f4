/* hopper-product - the pipeline of a matrix product on compute capability 9.0, whatever brings its
 * operands and takes its sums.
 *
 * A block makes 128 rows by BN columns: two warpgroups multiply, 64 rows each, a third brings, for
 * each step of 64 in depth, the rows' box and the columns' box. Two blocks with neighbouring rows
 * form a pair: each brings one half of the columns' box, to both. As many pairs as the card holds
 * go through all tiles, so that the next tile is on its way while one is written. */
#ifndef PREHEAT_BACKEND_CUDA_HOPPER_PRODUCT_CUH
#define PREHEAT_BACKEND_CUDA_HOPPER_PRODUCT_CUH

#include "backend/cuda/hopper.cuh"

enum { BM = 128, BK = 64, THREADS = 3 * WARPGROUP, PAIR = 2 };

template <int BN>
struct Plan {
    static constexpr int STAGES = BN == 256 ? 4 : 6;
    static constexpr uint32_t LEFT = BM * ROW_BYTES, RIGHT = BN * ROW_BYTES;
    static constexpr uint32_t STAGE = LEFT + RIGHT;
    static constexpr uint32_t BARRIERS = STAGES * STAGE;
    static constexpr uint32_t BYTES = BARRIERS + 128 + 1024; /* the base is aligned by hand */
    static_assert(2 * STAGES * 8 <= 128, "the barriers fit");
};

/* Where the pipeline stands; both sides start at the first stage. */
typedef struct Turn {
    int stage;
    uint32_t parity;
} Turn;

template <int BN>
static __device__ __forceinline__ void turn_next(Turn *turn) {
    if (++turn->stage == Plan<BN>::STAGES) {
        turn->stage = 0;
        turn->parity ^= 1;
    }
}

/* All threads of the pair; returns the base of the stages. */
template <int BN>
static __device__ __forceinline__ uint32_t stages_init(unsigned char *memory) {
    typedef Plan<BN> P;
    const uint32_t base = (shared_address(memory) + 1023) & ~1023u;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < P::STAGES; stage++) {
            barrier_init(base + P::BARRIERS + (uint32_t)stage * 16, 1);
            barrier_init(base + P::BARRIERS + (uint32_t)stage * 16 + 8, 4);
        }
        barrier_init_visible();
    }
    cluster_sync();
    return base;
}

/* What the bringing thread fills next, once it is free: the rows' box goes to at, this block's half
 * of the columns' box to half, both with the barrier full. */
typedef struct Stage {
    uint32_t at, half, full;
} Stage;

template <int BN>
static __device__ __forceinline__ Stage stage_take(uint32_t base, Turn *turn) {
    typedef Plan<BN> P;
    Stage s;
    s.at = base + (uint32_t)turn->stage * P::STAGE;
    s.half = s.at + P::LEFT + cluster_rank() * (P::RIGHT / 2);
    s.full = base + P::BARRIERS + (uint32_t)turn->stage * 16;
    barrier_wait(s.full + 8, turn->parity ^ 1);
    barrier_expect(s.full, P::STAGE);
    turn_next<BN>(turn);
    return s;
}

/* A stage is free again when both warpgroups of both blocks are done with it. */
static __device__ __forceinline__ void release(uint32_t barrier) {
    if (threadIdx.x % WARPGROUP < 2)
        barrier_arrive_at(barrier, threadIdx.x % WARPGROUP);
}

/* The multiplying warpgroups: sums of `steps` stages, at least one. */
template <int BN>
static __device__ __forceinline__ void sum_stages(
        uint32_t base, int steps, float sum[BN / 2], Turn *turn) {
    typedef Plan<BN> P;
    const uint32_t mine = (uint32_t)(threadIdx.x / WARPGROUP) * 64 * ROW_BYTES;
    uint32_t before = 0;
    for (int step = 0; step < steps; step++) {
        const uint32_t at = base + (uint32_t)turn->stage * P::STAGE;
        const uint32_t full = base + P::BARRIERS + (uint32_t)turn->stage * 16;
        barrier_wait(full, turn->parity);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < BK / 16; k++)
            multiply<BN>(sum, descriptor_rows(at + mine + (uint32_t)k * 32),
                    descriptor_rows(at + P::LEFT + (uint32_t)k * 32), step > 0 || k > 0);
        wgmma_commit();
        wgmma_wait<1>();
        if (step > 0)
            release(before + 8);
        before = full;
        turn_next<BN>(turn);
    }
    wgmma_wait<0>();
    release(before + 8);
}

/* Pairs of blocks for that many pairs of tiles, or an error. */
static inline cudaError_t count_pairs(int64_t n_work, unsigned *ret) {
    int device, n_sms;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, device);
    if (e == cudaSuccess)
        *ret = (unsigned)(n_work < n_sms / PAIR ? n_work : n_sms / PAIR);
    return e;
}

#endif
