/* The kernels in plain C with vectors of four: every CPU has them, every test runs them. */
#include "backend/cpu/kernels.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

enum { LANES = 4, MMA_ROWS = 2, MMA_BLOCKS = 1 };

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t VecI __attribute__((vector_size(16)));

static inline Vec vec_splat(float f) {
    return (Vec){f, f, f, f};
}

static inline Vec vec_fma(Vec a, Vec b, Vec c) {
    return a * b + c;
}

/* b where either is a NaN. */
static inline Vec vec_max(Vec a, Vec b) {
    VecI m = a > b;
    return (Vec)((m & (VecI)a) | (~m & (VecI)b));
}

static inline Vec vec_min(Vec a, Vec b) {
    VecI m = a < b;
    return (Vec)((m & (VecI)a) | (~m & (VecI)b));
}

static inline Vec load_part(const float *p, int64_t n) {
    Vec v = {0};
    for (int64_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}

static inline void store_part(float *p, Vec v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        p[i] = v[i];
}

static void widen_f16(float *y, const void *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)x + 2 * i, sizeof(h));
        y[i] = f16_to_f32(h);
    }
}

#define KERNELS kernels_portable
#define KERNELS_NAME "portable C"
#include "backend/cpu/kernels-tmpl.c"
