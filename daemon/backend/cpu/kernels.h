/* kernels - the inner loops of the CPU backend, one table for each instruction set.
 *
 * All operate on f32 and know nothing of views or threads. Each variant adds in its own fixed
 * order: results differ in the last bits between variants, never between runs of one. y may be x
 * wherever both appear. */
#ifndef PREHEAT_BACKEND_CPU_KERNELS_H
#define PREHEAT_BACKEND_CPU_KERNELS_H

#include "backend/backend.h"
#include "backend/ops.h"

/* Columns of C that one block of B covers, in every variant: packed B is [blocks][k][MMA_BLOCK]. */
enum { MMA_BLOCK = 16 };

/* Mma - c[i][j] (+)= sum over parts p and q < k of a[p][i * a_row + q * a_col] * B[p * k + q][j].
 *
 * B[q][j] is b[(j / MMA_BLOCK) * b_block + q * b_row + j % MMA_BLOCK]; it must be readable up to
 * the end of the last block. A part that is NULL counts as zeros. */
typedef struct Mma {
    float *c;
    int64_t c_row;
    const float *const *a;
    int64_t n_parts, k, a_row, a_col;
    const float *b;
    int64_t b_row, b_block;
    int64_t rows, cols;
    bool add; /* to what c holds */
} Mma;

/* SoftmaxTile - one tile of the online softmax, queries side by side.
 *
 *   s       [keys][lanes]  scores in, exp(score - new maximum) out
 *   max     [lanes]  running maximum, in and out; -INFINITY at first
 *   sum     [lanes]  running sum of the exponentials, in and out
 *   factor  [lanes]  what earlier results must be multiplied by
 *
 * lanes is a multiple of MMA_BLOCK. */
typedef struct SoftmaxTile {
    float *s, *max, *sum, *factor;
    int64_t keys, lanes;
} SoftmaxTile;

typedef struct Kernels {
    const char *name; /* as in BackendInfo.device */
    void (*mma)(const Mma *m);
    void (*softmax)(const SoftmaxTile *t);

    /* pack - columns of a block of B from rows: y[k][MMA_BLOCK] = x[rows][k] transposed, the
     * columns from rows (1 .. MMA_BLOCK) on 0. */
    void (*pack)(float *y, const float *x, int64_t x_row, int64_t rows, int64_t k);

    /* x need not be aligned to its element. */
    void (*widen_bf16)(float *y, const void *x, int64_t n);
    void (*widen_f16)(float *y, const void *x, int64_t n);

    void (*silu)(float *y, const float *x, int64_t n);
    void (*gelu)(float *y, const float *x, int64_t n);
    void (*geglu)(float *y, const float *gate, const float *up, int64_t n);

    /* One row. layer_norm: w and bias may both be NULL. */
    void (*rms_norm)(float *y, const float *x, const float *w, int64_t n, float eps);
    void (*layer_norm)(
            float *y, const float *x, const float *w, const float *bias, int64_t n, float eps);
    void (*norm_modulate)(
            float *y, const float *x, const float *shift, const float *scale, int64_t n, float eps);
    /* n / 2 interleaved pairs turned by (cosine, sine) of rope[n / 2][2]. */
    void (*rope)(float *y, const float *x, const float *rope, int64_t n);
    /* x + h, x + h * gate, into x. */
    void (*add)(float *x, const float *h, int64_t n);
    void (*add_gated)(float *x, const float *h, const float *gate, int64_t n);

    /* rows of n, dense, see op_vae_norm; act is none or SiLU or GELU. */
    void (*vae_norm)(
            float *y, const float *x, const float *gamma, int64_t rows, int64_t n, Activation act);
} Kernels;

/* kernels_find - the best table this CPU can run (ISA_BEST), or that of one instruction set; NULL
 * when the CPU, or this build, has it not. */
const Kernels *kernels_find(Isa isa);

extern const Kernels kernels_portable, kernels_avx2, kernels_avx512;

#endif
