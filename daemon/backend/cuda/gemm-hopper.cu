#include "backend/cuda/hopper-product.cuh"

#include <limits.h>

/* y = act(x w^T + bias) on the warpgroup-wide matrix unit, in bf16 with sums in f32. */

/* Pairs of row tiles that are gone through before the next columns: what runs at one time reads few
 * rows and few columns, both from the L2 cache. */
enum { BAND = 8 };

typedef struct Product {
    void *y;
    const float *bias;
    int64_t y_stride;
    int m, n, k, act;
    int pairs_m, tiles_n; /* tiles_m is even */
    int n_work;           /* pairs of tiles in all */
} Product;

/* Where a block's tile begins. */
typedef struct Corner {
    int m, n;
} Corner;

template <int BN>
static __device__ __forceinline__ Corner corner_of(const Product &a, int i) {
    const int band = i / (BAND * a.tiles_n), first = band * BAND;
    const int rows = a.pairs_m - first < BAND ? a.pairs_m - first : BAND;
    i -= band * BAND * a.tiles_n;
    Corner at;
    at.m = ((first + i % rows) * PAIR + (int)cluster_rank()) * BM;
    at.n = i / rows * BN;
    return at;
}

template <int BN>
static __device__ __forceinline__ void bring(uint32_t base, const CUtensorMap *x,
        const CUtensorMap *w, const Product &a, Corner corner, Turn *turn) {
    const int column = corner.n + (int)cluster_rank() * (BN / 2);
    for (int k = 0; k < a.k; k += BK) {
        const Stage stage = stage_take<BN>(base, turn);
        box2(stage.at, x, k, corner.m, stage.full);
        box2_pair(stage.half, w, k, column, stage.full);
    }
}

/* Lanes in pairs trade halves of two neighbouring blocks of eight columns, so that each writes four
 * columns of one and a row's lanes fill 32 or 64 bytes. */
template <typename TY, int BN>
static __device__ __forceinline__ void write_tile(
        const Product &a, Corner corner, const float sum[BN / 2]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32; /* 0 .. 7 */
    const int odd = lane % 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int m = corner.m + warp * 16 + lane / 4 + h * 8;
        TY *y = (TY *)a.y + m * a.y_stride;
#pragma unroll
        for (int i = 0; i < BN / 8; i += 2) {
            const int n = corner.n + i * 8 + lane % 4 * 2, mine = n + odd * 6;
            float left[2], right[2], four[4];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                left[j] = sum[4 * i + 2 * h + j];
                right[j] = sum[4 * i + 4 + 2 * h + j];
                const float got = __shfl_xor_sync(0xffffffffu, odd ? left[j] : right[j], 1);
                four[j] = odd ? got : left[j];
                four[2 + j] = odd ? right[j] : got;
            }
            if (m >= a.m || mine >= a.n)
                continue;
#pragma unroll
            for (int j = 0; j < 4; j++)
                four[j] = activate_for<TY>(four[j] + (a.bias ? a.bias[mine + j] : 0.0f), a.act);
            if constexpr (sizeof(TY) == 2)
                *(uint2 *)(y + mine) =
                        make_uint2(pack_bf16(four[0], four[1]), pack_bf16(four[2], four[3]));
            else
                *(float4 *)(y + mine) = make_float4(four[0], four[1], four[2], four[3]);
        }
    }
}

template <typename TY, int BN>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS, 1) gemm_kernel(
        const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w, Product a) {
    extern __shared__ unsigned char memory[];
    const uint32_t base = stages_init<BN>(memory);
    const int first = (int)blockIdx.x / PAIR, stride = (int)gridDim.x / PAIR;
    if (threadIdx.x >= 2 * WARPGROUP) {
        registers_give<40>();
        Turn turn = {0, 0};
        if (threadIdx.x == 2 * WARPGROUP)
            for (int i = first; i < a.n_work; i += stride)
                bring<BN>(base, &x, &w, a, corner_of<BN>(a, i), &turn);
    } else {
        registers_take<232>();
        Turn turn = {0, 0};
        for (int i = first; i < a.n_work; i += stride) {
            float sum[BN / 2]; /* the first step overwrites it */
            sum_stages<BN>(base, (a.k + BK - 1) / BK, sum, &turn);
            write_tile<TY, BN>(a, corner_of<BN>(a, i), sum);
        }
    }
    __syncwarp();
    cluster_sync(); /* the other block may still write here */
}

static CUresult rows_map(TensorMapEncode encode, CUtensorMap *map, const void *data, int64_t k,
        int64_t rows, int64_t stride, unsigned box_rows) {
    cuuint64_t dim[2] = {(cuuint64_t)k, (cuuint64_t)rows}, bytes[1] = {(cuuint64_t)stride * 2};
    cuuint32_t box[2] = {BK, box_rows}, step[2] = {1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)data, dim, bytes, box, step,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

template <typename TY, int BN>
static cudaError_t launch(
        cudaStream_t s, TensorMapEncode encode, Mat y, Mat x, const void *w, Product p) {
    CUtensorMap rows, columns;
    if (rows_map(encode, &rows, x.data, x.n, x.m, x.stride, BM) != CUDA_SUCCESS ||
            rows_map(encode, &columns, w, x.n, y.n, x.n, BN / 2) != CUDA_SUCCESS)
        return cudaErrorNotSupported;
    p.pairs_m = (int)div_up(y.m, PAIR * BM);
    p.tiles_n = (int)div_up(y.n, BN);
    const int64_t n_work = (int64_t)p.pairs_m * p.tiles_n;
    if (n_work > INT_MAX / 2)
        return cudaErrorNotSupported;
    p.n_work = (int)n_work;
    unsigned pairs;
    cudaError_t e = cudaFuncSetAttribute(
            gemm_kernel<TY, BN>, cudaFuncAttributeMaxDynamicSharedMemorySize, Plan<BN>::BYTES);
    if (e == cudaSuccess)
        e = count_pairs(n_work, &pairs);
    if (e != cudaSuccess)
        return e;
    gemm_kernel<TY, BN><<<pairs * PAIR, THREADS, Plan<BN>::BYTES, s>>>(rows, columns, p);
    return cudaGetLastError();
}

/* Tiles of 256 columns where there are enough of them for every multiprocessor. */
template <typename TY>
static cudaError_t launch_for(
        cudaStream_t s, TensorMapEncode encode, Mat y, Mat x, const void *w, const Product &p) {
    enum { MULTIPROCESSORS = 132 };
    const bool wide = y.n % 256 == 0 && div_up(y.m, BM) * (y.n / 256) >= MULTIPROCESSORS;
    return wide ? launch<TY, 256>(s, encode, y, x, w, p) : launch<TY, 128>(s, encode, y, x, w, p);
}

cudaError_t gemm_hopper(cudaStream_t s, TensorMapEncode encode, Mat y, Mat x, const void *w,
        const float *bias, int act) {
    const bool takes = x.dtype == DTYPE_BF16 && mat_takes_vectors(&x) && is_aligned16(w) &&
                       is_aligned16(y.data) && y.stride % 4 == 0 && y.n % 4 == 0 && x.n > 0 &&
                       y.m < INT_MAX / 2 && y.n < INT_MAX / 2 && x.n < INT_MAX / 2;
    if (!takes)
        return cudaErrorNotSupported;
    Product p = {y.data, bias, y.stride, (int)y.m, (int)y.n, (int)x.n, act, 0, 0, 0};
    FOR_DTYPE(y.dtype, TY, return launch_for<TY>(s, encode, y, x, w, p));
}
