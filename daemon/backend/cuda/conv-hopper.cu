#include "backend/cuda/hopper-product.cuh"

#include <limits.h>

/* Convolutions without stride in space on the warpgroup-wide matrix unit.
 *
 * The product's rows are BH x BW = 128 positions of one frame, its columns outputs, its depth taps
 * and 64 channels of each: the rows' box is the shifted box of the input (what lies outside becomes
 * zeros in the copy), the columns' box is the filters'. Taps on frames of zeros are left out.
 *
 * Doubling before a 3x3 filter: output (2 Y + a, 2 X + b) sees only 2x2 pixels of the input, so its
 * phase (a, b) is a 2x2 convolution of the input by sums of the filter's rows and columns, made
 * beforehand: 16 products instead of 36. */

enum { BH = 8, BW = 16, N_PHASES = 4 };

static_assert(BH * BW == BM, "a tile is one box of positions");

typedef struct Shape {
    bf16 *y;
    const bf16 *add;
    const float *bias;
    int64_t y_pixel, y_frame, add_frame;
    int n, h_out, w_out;                  /* of one phase */
    int tiles_x, tiles_m, tiles_n, t_out; /* tiles_m: of a frame, even */
    int n_work;                           /* pairs of tiles in all */
    int kt, kh, kw, stride_t, n_zero, n_prev, pad;
    int c;
    int phases; /* 1, or 4: the input is read at half the coordinates */
} Shape;

/* What a block makes. */
typedef struct Work {
    int t, y, x, n, phase;
    int first_tap_t; /* taps before it lie on frames of zeros */
} Work;

/* Positions vary fastest, then filters, frames and phases: what runs at one time reads neighbouring
 * positions and few filters. */
template <int BN>
static __device__ __forceinline__ Work work_of(const Shape &a, int i, uint32_t rank) {
    Work w;
    const int tile = i * PAIR % a.tiles_m + (int)rank;
    i /= a.tiles_m / PAIR;
    w.n = i % a.tiles_n * BN;
    i /= a.tiles_n;
    w.t = i % a.t_out;
    w.phase = i / a.t_out;
    w.y = tile / a.tiles_x * BH;
    w.x = tile % a.tiles_x * BW;
    const int zeros = a.n_zero - w.t * a.stride_t;
    w.first_tap_t = zeros < 0 ? 0 : zeros > a.kt ? a.kt : zeros;
    return w;
}

template <int BN>
static __device__ __forceinline__ void bring(uint32_t base, const CUtensorMap *x,
        const CUtensorMap *prev, const CUtensorMap *filters, const Shape &a, const Work &w,
        Turn *turn) {
    const uint32_t rank = cluster_rank();
    const int shift_y = a.phases == 4 ? w.phase / 2 - 1 : -a.pad;
    const int shift_x = a.phases == 4 ? w.phase % 2 - 1 : -a.pad;
    const int row = w.phase * a.n + w.n + (int)rank * (BN / 2);
    for (int i = w.first_tap_t; i < a.kt; i++) {
        const int f = w.t * a.stride_t + i - a.n_zero;
        const CUtensorMap *frames = f < a.n_prev ? prev : x;
        const int frame = f < a.n_prev ? f : f - a.n_prev;
        for (int jk = 0; jk < a.kh * a.kw; jk++) {
            const int tap = i * a.kh * a.kw + jk;
            const int at_y = w.y + shift_y + jk / a.kw, at_x = w.x + shift_x + jk % a.kw;
            for (int c = 0; c < a.c; c += BK) {
                const Stage stage = stage_take<BN>(base, turn);
                box4(stage.at, frames, c, at_x, at_y, frame, stage.full);
                box3_pair(stage.half, filters, c, tap, row, stage.full);
            }
        }
    }
}

/* Two neighbouring outputs with bias and addend, rounded. */
static __device__ __forceinline__ uint32_t finish(
        const Shape &a, const float sum[2], int n, const bf16 *add) {
    float u = sum[0], v = sum[1];
    if (n >= a.n)
        return 0;
    if (a.bias) {
        const float2 bias = *(const float2 *)(a.bias + n);
        u += bias.x;
        v += bias.y;
    }
    if (a.add) {
        const uint32_t pair = *(const uint32_t *)(add + n);
        u += __uint_as_float(pair << 16);
        v += __uint_as_float(pair & 0xffff0000u);
    }
    return pack_bf16(u, v);
}

/* Lanes in pairs trade halves of two neighbouring blocks of eight columns, so that each writes four
 * columns of one and a row's lanes fill 32 bytes. */
template <int BN>
static __device__ __forceinline__ void write_rows(
        const Shape &a, const Work &w, const float sum[BN / 2]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32; /* 0 .. 7 */
    const int odd = lane % 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int m = warp * 16 + lane / 4 + h * 8, y = w.y + m / BW, x = w.x + m % BW;
        const bool there = y < a.h_out && x < a.w_out;
        int64_t pixel = (int64_t)y * a.w_out + x;
        if (a.phases == N_PHASES)
            pixel = (2 * (int64_t)y + w.phase / 2) * 2 * a.w_out + 2 * x + w.phase % 2;
        bf16 *to = a.y + w.t * a.y_frame + pixel * a.y_pixel;
        const bf16 *add = a.add + w.t * a.add_frame + pixel * a.y_pixel;
#pragma unroll
        for (int i = 0; i < BN / 8; i += 2) {
            const int n = w.n + i * 8 + lane % 4 * 2, mine = n + odd * 6;
            uint32_t left = 0, right = 0;
            if (there) {
                left = finish(a, &sum[4 * i + 2 * h], n, add);
                right = finish(a, &sum[4 * i + 4 + 2 * h], n + 8, add);
            }
            const uint32_t got = __shfl_xor_sync(0xffffffffu, odd ? left : right, 1);
            if (there && mine < a.n)
                *(uint2 *)(to + mine) = odd ? make_uint2(got, right) : make_uint2(left, got);
        }
    }
}

template <int BN>
static __device__ __forceinline__ void compute(
        uint32_t base, const Shape &a, const Work &w, Turn *turn) {
    const int steps = (a.kt - w.first_tap_t) * a.kh * a.kw * ((a.c + BK - 1) / BK);
    float sum[BN / 2]; /* of one step at least, see takes_shape() */
    sum_stages<BN>(base, steps, sum, turn);
    write_rows<BN>(a, w, sum);
}

template <int BN>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS, 1)
        conv_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap prev,
                const __grid_constant__ CUtensorMap filters, Shape a) {
    extern __shared__ unsigned char memory[];
    const uint32_t base = stages_init<BN>(memory);
    const int first = (int)blockIdx.x / PAIR, stride = (int)gridDim.x / PAIR;
    if (threadIdx.x >= 2 * WARPGROUP) {
        registers_give<40>();
        Turn turn = {0, 0};
        if (threadIdx.x == 2 * WARPGROUP)
            for (int i = first; i < a.n_work; i += stride)
                bring<BN>(base, &x, &prev, &filters, a, work_of<BN>(a, i, cluster_rank()), &turn);
    } else {
        registers_take<232>();
        Turn turn = {0, 0};
        for (int i = first; i < a.n_work; i += stride)
            compute<BN>(base, a, work_of<BN>(a, i, cluster_rank()), &turn);
    }
    __syncwarp();
    cluster_sync(); /* the other block may still write here */
}

/* sums[phase, o, j, k, c]: rows of the filter that fall on row j of the phase's 2x2 window. Phase 0
 * sees {0} and {1, 2}, phase 1 sees {0, 1} and {2}; columns alike. */
__global__ void __launch_bounds__(256) sum_filters_kernel(bf16 *sums, const bf16 *w, int n, int c) {
    const int64_t count = (int64_t)N_PHASES * n * 4 * c;
    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < count;
            i += (int64_t)gridDim.x * 256) {
        const int channel = (int)(i % c), window = (int)(i / c % 4);
        const int o = (int)(i / (4 * (int64_t)c) % n), phase = (int)(i / (4 * (int64_t)c * n));
        const int a = phase / 2, b = phase % 2, j = window / 2, k = window % 2;
        const int first_y = j == 0 ? 0 : 1 + a, last_y = j == 0 ? a : 2;
        const int first_x = k == 0 ? 0 : 1 + b, last_x = k == 0 ? b : 2;
        float sum = 0;
        for (int y = first_y; y <= last_y; y++)
            for (int x = first_x; x <= last_x; x++)
                sum += to_f32(w[((int64_t)o * 9 + y * 3 + x) * c + channel]);
        sums[i] = from_f32<bf16>(sum);
    }
}

static CUresult frames_map(TensorMapEncode encode, CUtensorMap *map, const IgemmArgs *a,
        const void *data, int64_t pixel, int64_t frame, int64_t n_frames) {
    cuuint64_t dim[4] = {
            (cuuint64_t)a->c, (cuuint64_t)a->w_in, (cuuint64_t)a->h, (cuuint64_t)n_frames};
    cuuint64_t stride[3] = {
            (cuuint64_t)pixel * 2, (cuuint64_t)(pixel * a->w_in) * 2, (cuuint64_t)frame * 2};
    cuuint32_t box[4] = {BK, BW, BH, 1}, step[4] = {1, 1, 1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, (void *)data, dim, stride, box, step,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

static CUresult filters_map(TensorMapEncode encode, CUtensorMap *map, const void *w, int64_t c,
        int64_t taps, int64_t rows, unsigned box_rows) {
    cuuint64_t dim[3] = {(cuuint64_t)c, (cuuint64_t)taps, (cuuint64_t)rows};
    cuuint64_t stride[2] = {(cuuint64_t)c * 2, (cuuint64_t)(c * taps) * 2};
    cuuint32_t box[3] = {BK, 1, box_rows}, step[3] = {1, 1, 1};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)w, dim, stride, box, step,
            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

template <int BN>
static cudaError_t launch(
        cudaStream_t s, TensorMapEncode encode, const IgemmArgs *a, Shape shape, const void *w) {
    CUtensorMap x, prev, filters;
    const int64_t taps = (int64_t)shape.kt * shape.kh * shape.kw;
    const int64_t prev_frame = a->n_prev > 1 ? a->prev_frame : a->h * a->w_in * a->c;
    const int64_t x_frame = a->t > 1 ? a->x_frame : a->h * a->w_in * a->c;
    if (frames_map(encode, &x, a, a->x, a->x_pixel, x_frame, a->t) != CUDA_SUCCESS ||
            filters_map(encode, &filters, w, a->c, taps, shape.phases * a->n, BN / 2) !=
                    CUDA_SUCCESS)
        return cudaErrorNotSupported;
    prev = x;
    if (a->n_prev > 0 &&
            frames_map(encode, &prev, a, a->prev, a->c, prev_frame, a->n_prev) != CUDA_SUCCESS)
        return cudaErrorNotSupported;
    cudaError_t e = cudaFuncSetAttribute(
            conv_kernel<BN>, cudaFuncAttributeMaxDynamicSharedMemorySize, Plan<BN>::BYTES);
    if (e != cudaSuccess)
        return e;
    shape.t_out = (int)a->t_out;
    shape.tiles_n = (int)div_up(a->n, BN);
    shape.tiles_m = (int)div_up(shape.tiles_x * div_up(shape.h_out, BH), PAIR) * PAIR;
    int64_t n_work = (int64_t)(shape.tiles_m / PAIR) * shape.tiles_n * a->t_out * shape.phases;
    if (n_work > INT_MAX / 2)
        return cudaErrorNotSupported;
    shape.n_work = (int)n_work;
    unsigned pairs;
    if ((e = count_pairs(n_work, &pairs)) != cudaSuccess)
        return e;
    conv_kernel<BN><<<pairs * PAIR, THREADS, Plan<BN>::BYTES, s>>>(x, prev, filters, shape);
    return cudaGetLastError();
}

static bool is_aligned8(const void *p, int64_t a, int64_t b) {
    return ((uintptr_t)p & 7) == 0 && a % 4 == 0 && b % 4 == 0;
}

static bool takes_tensor_maps(const IgemmArgs *a) {
    return a->in == DTYPE_BF16 && a->out == DTYPE_BF16 && a->act == KERNEL_ACT_NONE &&
           is_aligned16(a->x) && is_aligned16(a->prev) && is_aligned16(a->w) &&
           is_aligned16(a->bias) && a->c % 8 == 0 && a->x_pixel % 8 == 0 && a->x_frame % 8 == 0 &&
           a->prev_frame % 8 == 0 && a->n % 4 == 0 && is_aligned8(a->y, a->y_pixel, a->y_frame) &&
           is_aligned8(a->add, a->y_pixel, a->add_frame);
}

/* Every output frame sees one frame that is not of zeros; strides in space are the portable
 * kernel's. */
static bool takes_shape(const IgemmArgs *a) {
    bool plain = a->up == 1;
    bool doubled = a->up == 2 && a->kt == 1 && a->kh == 3 && a->kw == 3 && a->pad == 1 &&
                   a->n_zero == 0 && a->n_prev == 0 && a->h_out == 2 * a->h &&
                   a->w_out == 2 * a->w_in;
    return (plain || doubled) && a->n_zero < a->kt && a->stride_s == 1 && a->t_out <= 65535 &&
           a->t > 0 && a->h_out * a->w_out < (1 << 30);
}

cudaError_t conv_hopper(
        cudaStream_t s, TensorMapEncode encode, const IgemmArgs *a, void *scratch, size_t bytes) {
    if (!takes_tensor_maps(a) || !takes_shape(a))
        return cudaErrorNotSupported;
    if (a->t_out * a->h_out * a->w_out == 0 || a->n == 0)
        return cudaSuccess;
    Shape shape = {(bf16 *)a->y, (const bf16 *)a->add, a->bias, a->y_pixel, a->y_frame,
            a->add_frame, (int)a->n, (int)a->h_out, (int)a->w_out, 0, 0, 0, 0, 0, a->kt, a->kh,
            a->kw, a->stride_t, a->n_zero, a->n_prev, a->pad, (int)a->c, 1};
    const void *w = a->w;
    if (a->up == 2) {
        if ((size_t)(N_PHASES * a->n * 4 * a->c) * sizeof(bf16) > bytes)
            return cudaErrorNotSupported;
        sum_filters_kernel<<<1024, 256, 0, s>>>(
                (bf16 *)scratch, (const bf16 *)a->w, (int)a->n, (int)a->c);
        w = scratch;
        shape.kh = shape.kw = 2;
        shape.h_out /= 2;
        shape.w_out /= 2;
        shape.phases = N_PHASES;
    }
    shape.tiles_x = (int)div_up(shape.w_out, BW);
    return a->n <= 16        ? launch<16>(s, encode, a, shape, w)
           : a->n % 256 == 0 ? launch<256>(s, encode, a, shape, w)
                             : launch<128>(s, encode, a, shape, w);
}
