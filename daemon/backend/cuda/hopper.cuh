/* hopper - barriers, bulk tensor copies and operand descriptors of compute capability 9.0.
 *
 * Tiles in shared memory are rows of 128 bytes (64 bf16), eight rows a group of 1024 bytes, the
 * 16-byte pieces of row r permuted by r % 8 (the 128-byte swizzle): what the copy engine writes and
 * the matrix unit reads. Bases are aligned to 1024 bytes. */
#ifndef PREHEAT_BACKEND_CUDA_HOPPER_CUH
#define PREHEAT_BACKEND_CUDA_HOPPER_CUH

#include "backend/cuda/device.cuh"
#include "backend/cuda/wgmma.cuh"

enum { WARPGROUP = 128, ROW_BYTES = 128, GROUP_BYTES = 1024 };

static __device__ __forceinline__ uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}
static __device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}
/* Arrives at the same barrier of block `rank` of the cluster. Here and in the wait the scope stays
 * the block's, the default: what is ordered is the copy engine's and the matrix unit's work, which
 * the barrier itself orders; a cluster's scope would flush and invalidate the L1 cache each time.
 */
static __device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile("{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}
static __device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{.reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}
static __device__ __forceinline__ void barrier_init_visible() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
static __device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                         : "memory");
}

/* Named barriers order the two warpgroups that multiply: 256 threads meet, 128 of them waiting. */
static __device__ __forceinline__ void turn_wait(int id) {
    asm volatile("bar.sync %0, 256;" ::"r"(id) : "memory");
}
static __device__ __forceinline__ void turn_give(int id) {
    asm volatile("bar.arrive %0, 256;" ::"r"(id) : "memory");
}

template <int REGISTERS>
static __device__ __forceinline__ void registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
static __device__ __forceinline__ void registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/* A box of a tensor into shared memory; the barrier gets its bytes. What lies outside the tensor
 * becomes zeros. */
static __device__ __forceinline__ void box2(
        uint32_t to, const CUtensorMap *map, int x, int y, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(barrier)
                 : "memory");
}
/* Into the same place of both blocks of a pair. */
static __device__ __forceinline__ void box2_pair(
        uint32_t to, const CUtensorMap *map, int x, int y, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(barrier), "h"((uint16_t)3)
                 : "memory");
}
static __device__ __forceinline__ void box3_pair(
        uint32_t to, const CUtensorMap *map, int x, int y, int z, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier), "h"((uint16_t)3)
                 : "memory");
}
static __device__ __forceinline__ void box4(
        uint32_t to, const CUtensorMap *map, int x, int y, int z, int t, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(t), "r"(barrier)
                 : "memory");
}

/* Operand descriptors: address and strides in units of 16 bytes, 128-byte swizzle. */
static __device__ __forceinline__ uint64_t descriptor(
        uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(leading_bytes >> 4) << 16 |
           (uint64_t)(stride_bytes >> 4) << 32 | (uint64_t)1 << 62;
}
/* The depth dense in each row: groups of eight rows follow each other. Step k of 16 lies 32 k bytes
 * further within the first 128. */
static __device__ __forceinline__ uint64_t descriptor_rows(uint32_t address) {
    return descriptor(address, 16, GROUP_BYTES);
}
/* The depth runs over the rows: `leading` bytes from 64 columns to the next 64. */
static __device__ __forceinline__ uint64_t descriptor_columns(uint32_t address, uint32_t leading) {
    return descriptor(address, leading, GROUP_BYTES);
}

#endif
