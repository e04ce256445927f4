#include "backend/cuda/igemm.cuh"

/* Convolutions and products in f32 arithmetic for every shape and alignment: exact_f32, and the few
 * layers whose channels do not come in eights (the encoder's first has 12).
 *
 * A block makes 64 positions x 64 outputs, a thread 4 x 4 of them; the depth (taps x channels) goes
 * by in steps of 16 through shared memory. Sums run over the depth in its own order. */

enum { TILE = 64, DEPTH = 16, THREADS = 256 };

template <typename TX, typename TY>
__global__ void __launch_bounds__(THREADS) plain_kernel(IgemmArgs a) {
    __shared__ float left[DEPTH][TILE + 4], right[DEPTH][TILE + 4];
    const int64_t first_m = (int64_t)blockIdx.x * TILE, first_n = (int64_t)blockIdx.y * TILE;
    const int c = (int)a.c, depth = a.kt * a.kh * a.kw * c;
    const int load_k = threadIdx.x % DEPTH, load_at = threadIdx.x / DEPTH;
    const int at_m = threadIdx.x % 16 * 4, at_n = threadIdx.x / 16 * 4;

    IgemmRow row[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        row[i] = igemm_row(a, first_m + load_at + i * 16);
    float sum[4][4] = {};
    for (int first_k = 0; first_k < depth; first_k += DEPTH) {
        int k = first_k + load_k, tap = k / c, channel = k - tap * c;
        int kk = tap % a.kw, kj = tap / a.kw % a.kh, ki = tap / (a.kw * a.kh);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const TX *p = k < depth ? igemm_pixel<TX>(a, row[i], ki, kj, kk) : nullptr;
            left[load_k][load_at + i * 16] = p ? to_f32(p[channel]) : 0.0f;
            int64_t n = first_n + load_at + i * 16;
            right[load_k][load_at + i * 16] =
                    k < depth && n < a.n ? to_f32(((const TX *)a.w)[n * depth + k]) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int step = 0; step < DEPTH; step++) {
            float4 u = *(const float4 *)&left[step][at_m], v = *(const float4 *)&right[step][at_n];
            const float us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum[i][j] = fmaf(us[i], vs[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t m = first_m + at_m + i;
        if (m >= a.t_out * a.h_out * a.w_out)
            break;
        TY *y = (TY *)a.y + igemm_output(a, m, a.y_frame);
        const TY *add = (const TY *)a.add + igemm_output(a, m, a.add_frame);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int64_t n = first_n + at_n + j;
            if (n >= a.n)
                break;
            float v = activate(sum[i][j] + (a.bias ? a.bias[n] : 0.0f), a.act);
            y[n] = from_f32<TY>(a.add ? v + to_f32(add[n]) : v);
        }
    }
}

cudaError_t igemm_plain(cudaStream_t s, const IgemmArgs *a) {
    int64_t m = a->t_out * a->h_out * a->w_out;
    if (m == 0 || a->n == 0)
        return cudaSuccess;
    dim3 blocks((unsigned)div_up(m, TILE), (unsigned)div_up(a->n, TILE));
    FOR_DTYPE(a->in, TX,
            FOR_DTYPE(a->out, TY, (plain_kernel<TX, TY><<<blocks, THREADS, 0, s>>>(*a))));
    return cudaGetLastError();
}
