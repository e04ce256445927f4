/* device - element conversions, vectors of eight and fixed-order sums that every kernel uses. */
#ifndef PREHEAT_BACKEND_CUDA_DEVICE_CUH
#define PREHEAT_BACKEND_CUDA_DEVICE_CUH

#include "backend/cuda/kernels.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef __nv_bfloat16 bf16;

static __device__ __forceinline__ float to_f32(float v) {
    return v;
}
static __device__ __forceinline__ float to_f32(bf16 v) {
    return __bfloat162float(v);
}
static __device__ __forceinline__ float to_f32(__half v) {
    return __half2float(v);
}

template <typename T>
static __device__ __forceinline__ T from_f32(float v);
template <>
__device__ __forceinline__ float from_f32<float>(float v) {
    return v;
}
template <>
__device__ __forceinline__ bf16 from_f32<bf16>(float v) {
    return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ __half from_f32<__half>(float v) {
    return __float2half_rn(v);
}

static __device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *(uint32_t *)&v;
}

/* N elements from p, which is aligned to min(16, N * sizeof(T)) bytes; N is 1, 2 or 8. */
template <int N>
static __device__ __forceinline__ void load(float v[N], const float *p) {
    if constexpr (N == 8) {
        *(float4 *)v = ((const float4 *)p)[0];
        *(float4 *)(v + 4) = ((const float4 *)p)[1];
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            v[i] = p[i];
    }
}
template <int N>
static __device__ __forceinline__ void load(float v[N], const bf16 *p) {
    if constexpr (N == 8) {
        uint4 raw = *(const uint4 *)p;
        const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = __uint_as_float(word[i] << 16);
            v[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            v[i] = to_f32(p[i]);
    }
}
template <int N>
static __device__ __forceinline__ void store(float *p, const float v[N]) {
    if constexpr (N == 8) {
        ((float4 *)p)[0] = make_float4(v[0], v[1], v[2], v[3]);
        ((float4 *)p)[1] = make_float4(v[4], v[5], v[6], v[7]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            p[i] = v[i];
    }
}
template <int N>
static __device__ __forceinline__ void store(bf16 *p, const float v[N]) {
    if constexpr (N == 8) {
        *(uint4 *)p = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            p[i] = from_f32<bf16>(v[i]);
    }
}

/* Both activations are v / (1 + exp(-u)): for gelu, 0.5 (1 + tanh(u / 2)) in the form that keeps
 * its digits where tanh is near -1. The exponent of a very negative v makes the quotient -0. */
static __device__ __forceinline__ float activation_exponent(float v, int act) {
    return act == KERNEL_ACT_GELU_TANH ? 1.5957691216057308f * (v + 0.044715f * v * v * v) : v;
}

/* For f32 outputs. */
static __device__ __forceinline__ float activate(float v, int act) {
    return act == KERNEL_ACT_NONE ? v : v / (1.0f + expf(-activation_exponent(v, act)));
}

/* For bf16 outputs: __expf and __fdividef err by less than 2^-20 relative where the result is not
 * negligible; half a bf16 step is 2^-9. Beyond 2^126 __fdividef's quotient is 0, as it should be.
 */
static __device__ __forceinline__ float activate_fast(float v, int act) {
    return act == KERNEL_ACT_NONE ? v : __fdividef(v, 1.0f + __expf(-activation_exponent(v, act)));
}

template <typename T>
static __device__ __forceinline__ float activate_for(float v, int act) {
    if constexpr (sizeof(T) == 2)
        return activate_fast(v, act);
    else
        return activate(v, act);
}

static __device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

/* Sum over the THREADS threads that share a row; `shared` has one float a warp. Every thread gets
 * it. */
template <int THREADS>
static __device__ __forceinline__ float row_sum(float v, float *shared) {
    v = warp_sum(v);
    if constexpr (THREADS > 32) {
        __syncthreads();
        if (threadIdx.x % 32 == 0)
            shared[threadIdx.x / 32] = v;
        __syncthreads();
        v = 0;
#pragma unroll
        for (int i = 0; i < THREADS / 32; i++)
            v += shared[i];
    }
    return v;
}

static inline bool is_aligned16(const void *p) {
    return ((uintptr_t)p & 15) == 0;
}

/* Rows that vectors of eight can walk. */
static inline bool mat_takes_vectors(const Mat *a) {
    return is_aligned16(a->data) && a->stride % 8 == 0 && a->n % 8 == 0;
}

static inline int64_t div_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Calls f with a null pointer of each operand's element type, f32 or bf16. */
#define FOR_DTYPE(dtype, T, ...)                                                                   \
    do {                                                                                           \
        if ((dtype) == DTYPE_F32) {                                                                \
            typedef float T;                                                                       \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            typedef bf16 T;                                                                        \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

#endif
