/* harness - cases of the operations' tests: tensors on a device between guards, and their
 * judgement.
 *
 * In the manner of checkasm. A case makes its tensors, calls one operation, states what every
 * output element must be (computed in f64 by the test itself, from the rounded inputs) and how far
 * it may be off, and case_end() looks: outputs were filled with NaN before, guards and the gaps
 * between rows must hold what they held, inputs must be what they were. Only the public contract of
 * a backend is used. */
#ifndef PREHEAT_TESTS_KERNELS_HARNESS_H
#define PREHEAT_TESTS_KERNELS_HARNESS_H

#undef NDEBUG

#include "backend/ops.h"

#include <math.h>
#include <stdint.h>

/* Unit roundoffs: 2^-p with p bits of significand, the hidden one counted. */
#define U_F32 0x1p-24
#define U_BF16 0x1p-8

typedef struct Tensor {
    const char *name;
    View view;                      /* on the device */
    double *value;                  /* [elements] what an input holds */
    double *want, *tolerance;       /* [elements] of an output */
    unsigned char *image;           /* what the device memory held before: guards and gaps too */
    size_t image_bytes, view_begin; /* bytes; of a weight: the host's, 0 */
    size_t tail;                    /* of a weight: its device bytes, a guard after them */
    bool is_input, is_output;
    Memory *memory;
    struct Tensor *next;
} Tensor;

typedef struct Test {
    Backend *backend;
    Stream *stream;
    DType act;        /* dtype of activations */
    double u_act;     /* its unit roundoff */
    double u_mid;     /* that of factors a device may round inside a product: u_act, or 0 for F32 */
    int64_t align;    /* row strides and offsets are multiples of it, in elements */
    bool any_address; /* of weights in host memory */
    uint64_t random;

    const char *op, *variant;
    char shape[200];        /* of the case */
    Tensor *tensors;        /* of the case */
    int64_t every, n_begun; /* only every so-many-th case of an operation; 0: all */
    int n_cases, n_failures;
    uint64_t digest; /* of all that came back */
    int n_shown;     /* failures of the operation at hand; the first few are printed */

    bool bench;
    double peak_flops, peak_bytes; /* a second, measured */
} Test;

/* An operation's cases, and its times. */
typedef struct Suite {
    const char *op;
    void (*check)(Test *t);
    void (*bench)(Test *t); /* or NULL */
} Suite;

extern const Suite suites_linear[], suites_norm[], suites_attention[], suites_conv[], suites_vae[],
        suites_element[]; /* each ends with a zeroed one */

/* random_index - 0 .. n - 1.  random_value - never 0: magnitude in [scale / 4, scale), rounded to
 * dtype. */
int64_t random_index(Test *t, int64_t n);
double random_value(Test *t, DType dtype, double scale);

/* case_begin - names the case, as printf; false: this one is to be left out. case_end - runs what
 * was given, looks, frees. */
bool case_begin(Test *t, const char *fmt, ...) _printf_(2, 3);
void case_end(Test *t);

typedef enum Role { ROLE_IN = 1, ROLE_OUT = 2, ROLE_INOUT = 3 } Role;

/* Layout - gap: elements between rows (rank 2) or between frames (rank 4), rounded up to t->align;
 * spread: the values' scale, 0 for 1. */
typedef struct Layout {
    int64_t gap;
    double spread;
} Layout;

Tensor *tensor_new(Test *t, const char *name, Role role, DType dtype, Layout layout, int rank,
        const int64_t dim[]);
#define tensor(t, name, role, dtype, layout, ...)                                                  \
    tensor_new((t), (name), (role), (dtype), (layout),                                             \
            (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                             \
            (const int64_t[]){__VA_ARGS__})
#define DENSE ((Layout){0})

/* tensor_weight - random values imported as `kind`: value holds them, view is what ops get. */
Tensor *tensor_weight(
        Test *t, const char *name, WeightKind kind, DType dtype, int rank, const int64_t dim[]);
#define weight(t, name, kind, dtype, ...)                                                          \
    tensor_weight((t), (name), (kind), (dtype),                                                    \
            (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                             \
            (const int64_t[]){__VA_ARGS__})

/* tensor_want - element i (of the dense order) must be value, within tolerance and one rounding to
 * the tensor's dtype; a NaN must be one. */
void tensor_want(Test *t, Tensor *y, int64_t i, double value, double tolerance);

/* Sum - a sum of products as a device may make it.
 *
 * Added in any order in f32, n terms are off by no more than n u * (sum of magnitudes), and, the
 * roundings being independent, by about sqrt(n) u of it; (8 + 2 sqrt n) u leaves room for the
 * terms' own roundings. Factors rounded to u_mid first: each term is off by u_mid |term| / sqrt(3)
 * in standard deviation, the sum by that of the root of the squares; 4 is 7 deviations. */
typedef struct Sum {
    double value, magnitude, squares;
    int64_t n;
} Sum;

static inline void sum_add(Sum *s, double term) {
    s->value += term;
    s->magnitude += fabs(term);
    s->squares += term * term;
    s->n++;
}

static inline double sum_tolerance(const Test *t, const Sum *s) {
    return (8 + 2 * sqrt((double)s->n)) * U_F32 * s->magnitude + 4 * t->u_mid * sqrt(s->squares);
}

/* bench_time - seconds of one `call`, the median of several runs after a first; bench_print - one
 * line, with shares of the measured peaks. */
typedef void BenchCall(Stream *s, const void *context);
double bench_time(Test *t, BenchCall *call, const void *context);
void bench_print(Test *t, const char *shape, double seconds, double flops, double bytes);

#endif
