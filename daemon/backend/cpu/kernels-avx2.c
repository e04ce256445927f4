/* The kernels for AVX2 with FMA and F16C, vectors of eight. */
#include "backend/cpu/kernels.h"

#include "base/half.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { LANES = 8, MMA_ROWS = 4, MMA_BLOCKS = 1 };

typedef float Vec __attribute__((vector_size(32)));
typedef int32_t VecI __attribute__((vector_size(32)));

static inline Vec vec_splat(float f) {
    return _mm256_set1_ps(f);
}

static inline Vec vec_fma(Vec a, Vec b, Vec c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* b where either is a NaN. */
static inline Vec vec_max(Vec a, Vec b) {
    return _mm256_max_ps(a, b);
}

static inline Vec vec_min(Vec a, Vec b) {
    return _mm256_min_ps(a, b);
}

static inline __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline Vec load_part(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}

static inline void store_part(float *p, Vec v, int64_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

static void widen_f16(float *y, const void *x, int64_t n) {
    const char *from = x;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + 2 * i))));
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, sizeof(h));
        y[i] = f16_to_f32(h);
    }
}

#define KERNELS kernels_avx2
#define KERNELS_NAME "AVX2"
#include "backend/cpu/kernels-tmpl.c"
