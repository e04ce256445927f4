#include "backend/cuda/mma.cuh"

/* Flash attention for head dimensions up to 128 on any card from sm_80 on.
 *
 * A block of four warps takes 64 queries of one head, 16 a warp; keys and values pass in tiles of
 * 64 through two buffers. Scores stay in registers: the accumulators of one product are, rounded to
 * bf16, the left operand of the next. D is head_dim rounded up; the columns beyond are zeros. Rows
 * of shared memory are D / 8 pieces of 16 bytes, piece c of row r lying at c ^ (r % min(8, D / 8)),
 * so that ldmatrix meets no bank twice (D >= 64; twice at 32, four times at 16). */

enum { BM = 64, BN = 64, THREADS = 128 };

template <int D>
struct Tile {
    static constexpr int PIECES = D / 8, MASK = PIECES < 8 ? PIECES - 1 : 7;
    static __device__ __forceinline__ uint32_t at(uint32_t base, int row, int piece) {
        return base + (uint32_t)((row * PIECES + (piece ^ (row & MASK))) * 16);
    }
    /* 64 rows from `first` on; rows and columns that are not there become zeros. */
    static __device__ __forceinline__ void fetch(
            uint32_t base, const bf16 *data, int64_t stride, int64_t first, int64_t rows, int d) {
#pragma unroll
        for (int i = threadIdx.x; i < 64 * PIECES; i += THREADS) {
            int row = i / PIECES, piece = i % PIECES;
            bool there = first + row < rows && piece * 8 < d;
            copy16(at(base, row, piece), there ? data + (first + row) * stride + piece * 8 : data,
                    there);
        }
    }
};

/* What a warp carries over the keys: per lane two rows. */
template <int D>
struct Carry {
    float o[D / 8][4], top[2], sum[2];
};

struct Scores {
    float s[BN / 8][4];
};

template <int D>
static __device__ __forceinline__ void multiply_qk(
        Scores &t, const uint32_t q[D / 16][4], uint32_t keys) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < BN / 8; n++)
        t.s[n][0] = t.s[n][1] = t.s[n][2] = t.s[n][3] = 0;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
#pragma unroll
        for (int n = 0; n < BN / 16; n++) {
            uint32_t b[4];
            int row = n * 16 + lane % 8 + lane / 16 * 8, piece = 2 * k + lane / 8 % 2;
            load_matrices(b, Tile<D>::at(keys, row, piece));
            mma(t.s[2 * n], q[k], b[0], b[1]);
            mma(t.s[2 * n + 1], q[k], b[2], b[3]);
        }
    }
}

/* Scores to base-2 exponents; keys beyond the end to -inf. i0: this lane's first row. */
static __device__ __forceinline__ void bias_and_mask(
        Scores &t, const FlashArgs &a, int64_t first, int64_t i0, int head) {
    const float log2e = 1.4426950408889634f, scale = a.scale * log2e;
    const int lane = threadIdx.x % 32;
    const bool last_tile = first + BN >= a.k.m;
#pragma unroll
    for (int n = 0; n < BN / 8; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float v = t.s[n][c] * scale;
            if (a.rel_bias || last_tile) {
                int64_t j = first + n * 8 + lane % 4 * 2 + c % 2, i = i0 + c / 2 * 8;
                if (a.rel_bias && i < a.q.m && j < a.k.m)
                    v += log2e * a.rel_bias[(j - i + a.q.m - 1) * a.n_heads + head];
                if (j == a.k.m - 1)
                    v += log2e * a.last_key_bias;
                if (j >= a.k.m)
                    v = -INFINITY;
            }
            t.s[n][c] = v;
        }
    }
}

/* Every tile has one key at least, so the maximum is finite unless the input is not. */
template <int COLUMNS>
static __device__ __forceinline__ void soften(
        Scores &t, float o[COLUMNS][4], float top[2], float sum[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float high = top[h];
#pragma unroll
        for (int n = 0; n < BN / 8; n++)
            high = fmaxf(high, fmaxf(t.s[n][2 * h], t.s[n][2 * h + 1]));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
        float fade = exp2f(top[h] - high), part = 0;
        top[h] = high;
#pragma unroll
        for (int n = 0; n < BN / 8; n++) {
            t.s[n][2 * h] = exp2f(t.s[n][2 * h] - high);
            t.s[n][2 * h + 1] = exp2f(t.s[n][2 * h + 1] - high);
            part += t.s[n][2 * h] + t.s[n][2 * h + 1];
        }
        sum[h] = sum[h] * fade + part;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            o[c][2 * h] *= fade;
            o[c][2 * h + 1] *= fade;
        }
    }
}

template <int D>
static __device__ __forceinline__ void multiply_pv(
        float o[D / 8][4], const Scores &t, uint32_t values) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < BN / 16; k++) {
        const float *lo = t.s[2 * k], *hi = t.s[2 * k + 1];
        const uint32_t p[4] = {pack_bf16(lo[0], lo[1]), pack_bf16(lo[2], lo[3]),
                pack_bf16(hi[0], hi[1]), pack_bf16(hi[2], hi[3])};
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            load_matrices_transposed(b, Tile<D>::at(values, k * 16 + lane % 16, 2 * n + lane / 16));
            mma(o[2 * n], p, b[0], b[1]);
            mma(o[2 * n + 1], p, b[2], b[3]);
        }
    }
}

template <int D>
static __device__ __forceinline__ void write_rows(
        const FlashArgs &a, float o[D / 8][4], float sum[2], int64_t i0, int64_t column, int d) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float total = sum[h];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        int64_t i = i0 + h * 8;
        if (i >= a.o.m)
            continue;
        bf16 *to = (bf16 *)a.o.data + i * a.o.stride + column;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            int c = n * 8 + lane % 4 * 2;
            if (c < d)
                *(uint32_t *)(to + c) = pack_bf16(o[n][2 * h] / total, o[n][2 * h + 1] / total);
        }
    }
}

template <int D>
__global__ void __launch_bounds__(THREADS) flash_kernel(FlashArgs a) {
    extern __shared__ __align__(128) unsigned char memory[];
    const uint32_t base = shared_address(memory), bytes = BN * D * 2;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.y;
    const int d = (int)a.head_dim;
    const int64_t first_q = (int64_t)blockIdx.x * BM, column = (int64_t)head * d;
    const bf16 *k = (const bf16 *)a.k.data + column, *v = (const bf16 *)a.v.data + column;
    auto fetch = [&](int buffer, int64_t first) {
        Tile<D>::fetch(base + (uint32_t)(2 * buffer) * bytes, k, a.k.stride, first, a.k.m, d);
        Tile<D>::fetch(base + (uint32_t)(2 * buffer + 1) * bytes, v, a.v.stride, first, a.k.m, d);
        copy_commit();
    };

    /* The queries pass through the second buffer before the keys need it. */
    Tile<D>::fetch(
            base + 2 * bytes, (const bf16 *)a.q.data + column, a.q.stride, first_q, a.q.m, d);
    copy_commit();
    fetch(0, 0);
    copy_wait<1>();
    __syncthreads();
    uint32_t q[D / 16][4];
#pragma unroll
    for (int c = 0; c < D / 16; c++)
        load_matrices(
                q[c], Tile<D>::at(base + 2 * bytes, warp * 16 + lane % 16, 2 * c + lane / 16));
    __syncthreads();

    Carry<D> carry;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        carry.o[n][0] = carry.o[n][1] = carry.o[n][2] = carry.o[n][3] = 0;
    carry.top[0] = carry.top[1] = -INFINITY;
    carry.sum[0] = carry.sum[1] = 0;
    const int64_t i0 = first_q + warp * 16 + lane / 4;
    int buffer = 0;
    for (int64_t first = 0; first < a.k.m; first += BN, buffer ^= 1) {
        if (first + BN < a.k.m) {
            fetch(buffer ^ 1, first + BN);
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        __syncthreads();
        Scores t;
        multiply_qk<D>(t, q, base + (uint32_t)(2 * buffer) * bytes);
        bias_and_mask(t, a, first, i0, head);
        soften<D / 8>(t, carry.o, carry.top, carry.sum);
        multiply_pv<D>(carry.o, t, base + (uint32_t)(2 * buffer + 1) * bytes);
        __syncthreads();
    }
    write_rows<D>(a, carry.o, carry.sum, i0, column, d);
}

/* Head dimensions beyond 128: queries and keys pass in pieces of 64 columns, and a block makes 128
 * columns of the output; each of the ceil(d / 128) blocks of a tile of queries makes the scores for
 * itself. */
enum { WIDE = 128, PIECE = 64 };

__global__ void __launch_bounds__(THREADS) wide_kernel(FlashArgs a) {
    extern __shared__ __align__(128) unsigned char memory[];
    const uint32_t base = shared_address(memory), bytes = 64 * PIECE * 2, values = base + 4 * bytes;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.y;
    const int d = (int)a.head_dim, slice = (int)blockIdx.z * WIDE;
    const int width = d - slice < WIDE ? d - slice : WIDE, pieces = (d + PIECE - 1) / PIECE;
    const int64_t first_q = (int64_t)blockIdx.x * BM, column = (int64_t)head * d;
    const bf16 *q = (const bf16 *)a.q.data + column, *k = (const bf16 *)a.k.data + column;
    const bf16 *v = (const bf16 *)a.v.data + column + slice;
    auto fetch = [&](int buffer, int64_t first, int piece) {
        int c = piece * PIECE;
        Tile<PIECE>::fetch(
                base + (uint32_t)buffer * 2 * bytes, q + c, a.q.stride, first_q, a.q.m, d - c);
        Tile<PIECE>::fetch(
                base + (uint32_t)(buffer * 2 + 1) * bytes, k + c, a.k.stride, first, a.k.m, d - c);
        copy_commit();
    };

    float o[WIDE / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const int64_t i0 = first_q + warp * 16 + lane / 4;
    for (int64_t first = 0; first < a.k.m; first += BN) {
        Scores t = {};
        Tile<WIDE>::fetch(values, v, a.v.stride, first, a.k.m, width);
        fetch(0, first, 0);
        for (int piece = 0; piece < pieces; piece++) {
            if (piece + 1 < pieces) {
                fetch((piece + 1) % 2, first, piece + 1);
                copy_wait<1>();
            } else {
                copy_wait<0>();
            }
            __syncthreads();
            uint32_t tile = base + (uint32_t)(piece % 2) * 2 * bytes, rows[PIECE / 16][4];
#pragma unroll
            for (int c = 0; c < PIECE / 16; c++)
                load_matrices(
                        rows[c], Tile<PIECE>::at(tile, warp * 16 + lane % 16, 2 * c + lane / 16));
            Scores part;
            multiply_qk<PIECE>(part, rows, tile + bytes);
#pragma unroll
            for (int n = 0; n < BN / 8; n++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    t.s[n][c] += part.s[n][c];
            __syncthreads();
        }
        bias_and_mask(t, a, first, i0, head);
        soften<WIDE / 8>(t, o, top, sum);
        multiply_pv<WIDE>(o, t, values);
        __syncthreads();
    }
    write_rows<WIDE>(a, o, sum, i0, column + slice, width);
}

static bool takes_vectors(const FlashArgs *a) {
    const Mat *all[4] = {&a->o, &a->q, &a->k, &a->v};
    for (int i = 0; i < 4; i++)
        if (all[i]->dtype != DTYPE_BF16 || !is_aligned16(all[i]->data) || all[i]->stride % 8)
            return false;
    return a->head_dim % 8 == 0;
}

template <int D>
static cudaError_t flash_launch(cudaStream_t s, const FlashArgs *a) {
    int bytes = 4 * BN * D * 2;
    cudaError_t e = cudaFuncSetAttribute(
            flash_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (e != cudaSuccess)
        return e;
    dim3 blocks((unsigned)div_up(a->q.m, BM), (unsigned)a->n_heads);
    flash_kernel<D><<<blocks, THREADS, bytes, s>>>(*a);
    return cudaGetLastError();
}

cudaError_t attention_mma(cudaStream_t s, const FlashArgs *a) {
    if (!takes_vectors(a) || a->head_dim > 128)
        return cudaErrorNotSupported;
    if (a->q.m == 0)
        return cudaSuccess;
    return a->head_dim <= 16   ? flash_launch<16>(s, a)
           : a->head_dim <= 32 ? flash_launch<32>(s, a)
           : a->head_dim <= 64 ? flash_launch<64>(s, a)
                               : flash_launch<128>(s, a);
}

cudaError_t attention_wide(cudaStream_t s, const FlashArgs *a) {
    if (!takes_vectors(a))
        return cudaErrorNotSupported;
    if (a->q.m == 0)
        return cudaSuccess;
    int bytes = 4 * 64 * PIECE * 2 + BN * WIDE * 2;
    cudaError_t e =
            cudaFuncSetAttribute(wide_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (e != cudaSuccess)
        return e;
    dim3 blocks((unsigned)div_up(a->q.m, BM), (unsigned)a->n_heads,
            (unsigned)div_up(a->head_dim, WIDE));
    wide_kernel<<<blocks, THREADS, bytes, s>>>(*a);
    return cudaGetLastError();
}
