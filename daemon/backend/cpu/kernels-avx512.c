/* The kernels for AVX-512 (F, BW, DQ, VL), vectors of sixteen. */
#include "backend/cpu/kernels.h"

#include "base/half.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { LANES = 16, MMA_ROWS = 16, MMA_BLOCKS = 2 };

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t VecI __attribute__((vector_size(64)));

static inline Vec vec_splat(float f) {
    return _mm512_set1_ps(f);
}

static inline Vec vec_fma(Vec a, Vec b, Vec c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* b where either is a NaN. */
static inline Vec vec_max(Vec a, Vec b) {
    return _mm512_max_ps(a, b);
}

static inline Vec vec_min(Vec a, Vec b) {
    return _mm512_min_ps(a, b);
}

static inline Vec load_part(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

static inline void store_part(float *p, Vec v, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

static void widen_f16(float *y, const void *x, int64_t n) {
    const char *from = x;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm512_storeu_ps(
                y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + 2 * i))));
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, sizeof(h));
        y[i] = f16_to_f32(h);
    }
}

#define KERNELS kernels_avx512
#define KERNELS_NAME "AVX-512"
#include "backend/cpu/kernels-tmpl.c"
