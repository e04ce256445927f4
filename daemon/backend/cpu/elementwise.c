#include "backend/cpu/cpu-impl.h"
#include "base/half.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Dense tensors are handled in runs of this many elements. */
enum { RUN = 4096 };

static int64_t runs_of(int64_t n) {
    return (n + RUN - 1) / RUN;
}

typedef struct ElementJob {
    CpuBackend *b;
    View y, x, z;
    float value;
    Activation act;
} ElementJob;

/* A view of any strides as rows along its last axis; a scalar is one row of one. */
static int64_t row_length(View v) {
    return v.rank ? v.dim[v.rank - 1] : 1;
}

static int64_t row_count(View v) {
    int64_t n = row_length(v);
    return n ? view_count(v) / n : 0;
}

static char *row_at(View v, int64_t i) {
    int64_t offset = 0;
    for (int k = v.rank - 2; k >= 0; k--) {
        offset += i % v.dim[k] * v.stride[k];
        i /= v.dim[k];
    }
    return (char *)v.data + offset * (int64_t)dtype_bytes(v.dtype);
}

static void narrow_row(char *y, DType dtype, const float *x, int64_t n) {
    uint16_t *h = (uint16_t *)y;
    if (dtype == DTYPE_F32)
        memcpy(y, x, (size_t)n * sizeof(*x));
    else
        for (int64_t i = 0; i < n; i++)
            h[i] = dtype == DTYPE_BF16 ? bf16_from_f32(x[i]) : f16_from_f32(x[i]);
}

/* n elements in a row. */
static void copy_elements(const ElementJob *j, char *y, const char *x, int64_t n, int worker) {
    size_t x_size = dtype_bytes(j->x.dtype), y_size = dtype_bytes(j->y.dtype);
    float *piece = j->b->scratch[worker].data;
    if (j->x.dtype == j->y.dtype) {
        memcpy(y, x, (size_t)n * x_size);
    } else if (j->y.dtype == DTYPE_F32) {
        cpu_widen_row(j->b->kernels, (float *)y, x, j->x.dtype, n);
    } else {
        for (int64_t k = 0; k < n; k += RUN) {
            int64_t length = MIN((int64_t)RUN, n - k);
            cpu_widen_row(j->b->kernels, piece, x + (size_t)k * x_size, j->x.dtype, length);
            narrow_row(y + (size_t)k * y_size, j->y.dtype, piece, length);
        }
    }
}

static void copy_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ElementJob *j = context;
    for (int64_t i = begin; i < end; i++)
        copy_elements(j, row_at(j->y, i), row_at(j->x, i), row_length(j->y), worker);
}

static void copy_runs(void *context, int64_t begin, int64_t end, int worker) {
    const ElementJob *j = context;
    int64_t from = begin * RUN, to = MIN(end * RUN, view_count(j->y));
    copy_elements(j, (char *)j->y.data + (size_t)from * dtype_bytes(j->y.dtype),
            (const char *)j->x.data + (size_t)from * dtype_bytes(j->x.dtype), to - from, worker);
}

void cpu_copy(Stream *s, View y, View x) {
    ElementJob j = {.b = cpu_of(s), .y = y, .x = x};
    if (view_is_dense(y) && view_is_dense(x))
        cpu_for_rows(j.b, runs_of(view_count(y)), RUN, copy_runs, &j);
    else
        cpu_for_rows(j.b, row_count(y), row_length(y), copy_rows, &j);
}

static void fill_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ElementJob *j = context;
    int64_t n = row_length(j->y);
    for (int64_t i = begin; i < end; i++) {
        float *y = (float *)row_at(j->y, i);
        for (int64_t k = 0; k < n; k++)
            y[k] = j->value;
    }
}

void cpu_fill(Stream *s, View y, float value) {
    ElementJob j = {.b = cpu_of(s), .y = y, .value = value};
    cpu_for_rows(j.b, row_count(y), row_length(y), fill_rows, &j);
}

static void geglu_runs(void *context, int64_t begin, int64_t end, int worker) {
    const ElementJob *j = context;
    int64_t from = begin * RUN, to = MIN(end * RUN, view_count(j->y));
    j->b->kernels->geglu(
            view_f32(j->y) + from, view_f32(j->x) + from, view_f32(j->z) + from, to - from);
}

void cpu_geglu(Stream *s, View y, View gate, View up) {
    ElementJob j = {.b = cpu_of(s), .y = y, .x = gate, .z = up};
    cpu_for_rows(j.b, runs_of(view_count(y)), 4 * RUN, geglu_runs, &j);
}

static void act_runs(void *context, int64_t begin, int64_t end, int worker) {
    const ElementJob *j = context;
    int64_t from = begin * RUN, to = MIN(end * RUN, view_count(j->y));
    float *y = view_f32(j->y) + from;
    const float *x = view_f32(j->x) + from;
    if (j->act == ACT_SILU)
        j->b->kernels->silu(y, x, to - from);
    else if (j->act == ACT_GELU_TANH)
        j->b->kernels->gelu(y, x, to - from);
    else
        memmove(y, x, (size_t)(to - from) * sizeof(*y));
}

void cpu_act(Stream *s, View y, View x, Activation act) {
    ElementJob j = {.b = cpu_of(s), .y = y, .x = x, .act = act};
    cpu_for_rows(j.b, runs_of(view_count(y)), 4 * RUN, act_runs, &j);
}

static void add_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ElementJob *j = context;
    int64_t n = j->y.dim[1];
    for (int64_t i = begin; i < end; i++) {
        float *x = view_f32(j->y) + i * j->y.stride[0];
        const float *h = view_f32(j->x) + i * j->x.stride[0];
        if (view_is_null(j->z))
            j->b->kernels->add(x, h, n);
        else
            j->b->kernels->add_gated(x, h, view_f32(j->z), n);
    }
}

void cpu_add(Stream *s, View x, View h) {
    ElementJob j = {.b = cpu_of(s), .y = x, .x = h};
    cpu_for_rows(j.b, x.dim[0], x.dim[1], add_rows, &j);
}

void cpu_add_gated(Stream *s, View x, View h, View gate) {
    ElementJob j = {.b = cpu_of(s), .y = x, .x = h, .z = gate};
    cpu_for_rows(j.b, x.dim[0], x.dim[1], add_rows, &j);
}

typedef struct LincombJob {
    float *y;
    int64_t n_elements;
    int n;
    const float *x[4];
    float a[4];
} LincombJob;

static void lincomb_runs(void *context, int64_t begin, int64_t end, int worker) {
    const LincombJob *j = context;
    int64_t to = MIN(end * RUN, j->n_elements);
    for (int64_t i = begin * RUN; i < to; i++) {
        float sum = j->a[0] * j->x[0][i];
        for (int k = 1; k < j->n; k++)
            sum += j->a[k] * j->x[k][i];
        j->y[i] = sum;
    }
}

void cpu_lincomb(Stream *s, View y, int n, const View x[], const float a[]) {
    LincombJob j = {.y = view_f32(y), .n_elements = view_count(y), .n = n};
    for (int k = 0; k < n; k++) {
        j.x[k] = view_f32(x[k]);
        j.a[k] = a[k];
    }
    cpu_for_rows(cpu_of(s), runs_of(j.n_elements), RUN, lincomb_runs, &j);
}

typedef struct CountJob {
    const float *x;
    int64_t n_elements;
    _Atomic int32_t count; /* a sum of integers is the same in every order; relaxed */
} CountJob;

static void count_runs(void *context, int64_t begin, int64_t end, int worker) {
    CountJob *j = context;
    int64_t to = MIN(end * RUN, j->n_elements);
    int32_t count = 0;
    for (int64_t i = begin * RUN; i < to; i++)
        count += !isfinite(j->x[i]);
    atomic_fetch_add_explicit(&j->count, count, memory_order_relaxed);
}

void cpu_count_nonfinite(Stream *s, View y, View x) {
    CountJob j = {.x = view_f32(x), .n_elements = view_count(x)};
    cpu_for_rows(cpu_of(s), runs_of(j.n_elements), RUN, count_runs, &j);
    *(int32_t *)y.data = atomic_load_explicit(&j.count, memory_order_relaxed);
}

void cpu_gather_rows(Stream *s, View y, View table, const int32_t *ids) {
    const Kernels *k = cpu_of(s)->kernels;
    int64_t n = y.dim[1];
    for (int64_t i = 0; i < y.dim[0]; i++)
        cpu_widen_row(k, view_f32(y) + i * n,
                (const char *)table.data + (size_t)(ids[i] * n) * dtype_bytes(table.dtype),
                table.dtype, n);
}
