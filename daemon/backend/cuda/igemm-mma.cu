#include "backend/cuda/igemm.cuh"
#include "backend/cuda/mma.cuh"

/* Convolutions and products on the tensor cores of any card from sm_80 on.
 *
 * A block of eight warps makes 128 positions x BN outputs. The depth goes by in steps of 32
 * channels of one tap, through STAGES buffers filled by asynchronous copies; what lies outside the
 * input, or beyond the last channel, is filled with zeros by the copy itself. A row of a buffer is
 * four pieces of 16 bytes, piece p of row r lying at p ^ (r / 2 % 4): two rows share 128 bytes, so
 * eight rows of one piece meet eight different groups of banks. */

enum { BM = 128, BK = 32, STAGES = 4, THREADS = 256 };

static __device__ __forceinline__ uint32_t piece_at(int row, int piece) {
    return (uint32_t)(row * 64 + (piece ^ (row / 2 % 4)) * 16);
}

/* The step of the depth that is fetched next. */
typedef struct Depth {
    int i, j, k, c; /* tap and first channel */
} Depth;

static __device__ __forceinline__ void depth_next(Depth *d, const IgemmArgs &a) {
    d->c += BK;
    if (d->c < (int)a.c)
        return;
    d->c = 0;
    if (++d->k < a.kw)
        return;
    d->k = 0;
    if (++d->j < a.kh)
        return;
    d->j = 0;
    d->i++;
}

template <int BN>
static __device__ __forceinline__ void fetch(const IgemmArgs &a, uint32_t stage,
        const IgemmRow row[2], const Depth &d, int64_t first_n) {
    const int piece = threadIdx.x % 4, at = threadIdx.x / 4, c = d.c + piece * 8;
    const bool inside = c < (int)a.c;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bf16 *p = inside ? igemm_pixel<bf16>(a, row[i], d.i, d.j, d.k) : nullptr;
        copy16(stage + piece_at(at + i * 64, piece), p ? p + c : (const bf16 *)a.x, p != nullptr);
    }
    const int64_t taps = (int64_t)a.kt * a.kh * a.kw;
    const int64_t tap = ((int64_t)d.i * a.kh + d.j) * a.kw + d.k;
#pragma unroll
    for (int i = 0; i < (BN + 63) / 64; i++) {
        int row_n = at + i * 64;
        if (BN < 64 && row_n >= BN)
            break;
        bool there = inside && first_n + row_n < a.n;
        const bf16 *p = (const bf16 *)a.w + ((first_n + row_n) * taps + tap) * a.c + c;
        copy16(stage + BM * 64 + piece_at(row_n, piece), there ? p : (const bf16 *)a.w, there);
    }
}

/* What is done to one pair of neighbouring outputs. */
template <typename TY>
static __device__ __forceinline__ void write_pair(
        const IgemmArgs &a, int64_t m, int64_t n, const float v[2], bool paired) {
    TY *y = (TY *)a.y + igemm_output(a, m, a.y_frame) + n;
    const TY *add = (const TY *)a.add + igemm_output(a, m, a.add_frame) + n;
    float u[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool there = n + i < a.n;
        u[i] = activate_for<TY>(v[i] + (a.bias && there ? a.bias[n + i] : 0.0f), a.act);
        if (a.add && there)
            u[i] += to_f32(add[i]);
    }
    if constexpr (sizeof(TY) == 2) {
        if (paired) {
            *(uint32_t *)y = pack_bf16(u[0], u[1]);
            return;
        }
    }
    y[0] = from_f32<TY>(u[0]);
    if (n + 1 < a.n)
        y[1] = from_f32<TY>(u[1]);
}

template <typename TY, int BN, int WM, int WN>
__global__ void __launch_bounds__(THREADS, 2) mma_kernel(IgemmArgs a, bool paired) {
    extern __shared__ __align__(128) unsigned char memory[];
    constexpr uint32_t STAGE = (BM + BN) * 64;
    constexpr int COLUMNS = BN / WN;
    static_assert(BM / WM * COLUMNS == THREADS / 32, "the warps cover the tile");
    const uint32_t base = shared_address(memory);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int warp_m = warp / COLUMNS * WM, warp_n = warp % COLUMNS * WN;
    const unsigned n_blocks = (unsigned)((a.n + BN - 1) / BN); /* neighbours share positions */
    const int64_t first_n = (int64_t)(blockIdx.x % n_blocks) * BN;
    const int64_t first_m = (int64_t)(blockIdx.x / n_blocks) * BM;
    const int steps = a.kt * a.kh * a.kw * (((int)a.c + BK - 1) / BK);

    const IgemmRow row[2] = {
            igemm_row(a, first_m + threadIdx.x / 4), igemm_row(a, first_m + threadIdx.x / 4 + 64)};
    Depth next = {0, 0, 0, 0};
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < steps) {
            fetch<BN>(a, base + (uint32_t)i * STAGE, row, next, first_n);
            depth_next(&next, a);
        }
        copy_commit();
    }
    float sum[WM / 16][WN / 8][4] = {};
    for (int step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) {
            fetch<BN>(
                    a, base + (uint32_t)((step + STAGES - 1) % STAGES) * STAGE, row, next, first_n);
            depth_next(&next, a);
        }
        copy_commit();
        const uint32_t left = base + (uint32_t)(step % STAGES) * STAGE, right = left + BM * 64;
#pragma unroll
        for (int k = 0; k < BK / 16; k++) {
            uint32_t u[WM / 16][4], v[WN / 16][4];
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
                load_matrices(
                        u[i], left + piece_at(warp_m + i * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (int j = 0; j < WN / 16; j++)
                load_matrices(v[j], right + piece_at(warp_n + j * 16 + lane % 8 + lane / 16 * 8,
                                                    2 * k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < WM / 16; i++)
#pragma unroll
                for (int j = 0; j < WN / 16; j++) {
                    mma(sum[i][2 * j], u[i], v[j][0], v[j][1]);
                    mma(sum[i][2 * j + 1], u[i], v[j][2], v[j][3]);
                }
        }
    }
    const int64_t rows = a.t_out * a.h_out * a.w_out;
#pragma unroll
    for (int i = 0; i < WM / 16; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int64_t m = first_m + warp_m + i * 16 + h * 8 + lane / 4;
#pragma unroll
            for (int j = 0; j < WN / 8; j++) {
                int64_t n = first_n + warp_n + j * 8 + lane % 4 * 2;
                if (m < rows && n < a.n)
                    write_pair<TY>(a, m, n, &sum[i][j][2 * h], paired);
            }
        }
}

template <typename TY, int BN, int WM, int WN>
static cudaError_t mma_launch(cudaStream_t s, const IgemmArgs *a) {
    int bytes = STAGES * (BM + BN) * 64;
    cudaError_t e = cudaFuncSetAttribute(
            mma_kernel<TY, BN, WM, WN>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (e != cudaSuccess)
        return e;
    int64_t m = a->t_out * a->h_out * a->w_out;
    bool paired = a->n % 2 == 0 && a->y_pixel % 2 == 0 && a->y_frame % 2 == 0 &&
                  ((uintptr_t)a->y & 3) == 0;
    unsigned blocks = (unsigned)(div_up(a->n, BN) * div_up(m, BM));
    mma_kernel<TY, BN, WM, WN><<<blocks, THREADS, bytes, s>>>(*a, paired);
    return cudaGetLastError();
}

cudaError_t igemm_mma(cudaStream_t s, const IgemmArgs *a) {
    bool vectors = a->in == DTYPE_BF16 && a->c % 8 == 0 && a->x_pixel % 8 == 0 &&
                   a->x_frame % 8 == 0 && a->prev_frame % 8 == 0 && is_aligned16(a->x) &&
                   is_aligned16(a->prev) && is_aligned16(a->w);
    if (!vectors)
        return cudaErrorNotSupported;
    if (a->t_out * a->h_out * a->w_out == 0 || a->n == 0)
        return cudaSuccess;
    cudaError_t e;
    FOR_DTYPE(a->out, TY, {
        if (a->n <= 16)
            e = mma_launch<TY, 16, 16, 16>(s, a);
        else if (a->n <= 64)
            e = mma_launch<TY, 64, 32, 32>(s, a);
        else
            e = mma_launch<TY, 128, 64, 32>(s, a);
    });
    return e;
}
