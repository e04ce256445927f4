#include "backend/cpu/cpu-impl.h"

#include <cblas.h>
#include <string.h>

/* y is cut into tiles of at most ROWS x columns; a tile's weights are widened to scratch, DEPTH of
 * k at a time. The cut depends on the shapes alone. */
enum { ROWS = 64, DEPTH = 1024, PANEL_FLOATS = 64 * 1024 };
static_assert((int)PANEL_FLOATS <= (int)SCRATCH_FLOATS, "a panel fits the scratch");

typedef struct LinearJob {
    CpuBackend *b;
    View y, x, w, bias;
    Activation act;
    int64_t rows, cols; /* of a tile */
    int64_t row_tiles;
} LinearJob;

static void activate_row(const Kernels *k, float *y, int64_t n, Activation act) {
    if (act == ACT_SILU)
        k->silu(y, y, n);
    else if (act == ACT_GELU_TANH)
        k->gelu(y, y, n);
}

/* The weights [cols, depth] from (col, k) on as f32: in place, or in panel with rows of depth. */
static const float *weights_f32(const LinearJob *j, float *panel, int64_t col, int64_t cols,
        int64_t k, int64_t depth, int64_t *ret_row) {
    const View w = j->w;
    size_t size = dtype_bytes(w.dtype);
    const char *from = (const char *)w.data + (size_t)(col * w.dim[1] + k) * size;
    if (w.dtype == DTYPE_F32 && (uintptr_t)from % _Alignof(float) == 0) {
        *ret_row = w.dim[1];
        return (const float *)from;
    }
    for (int64_t i = 0; i < cols; i++)
        cpu_widen_row(j->b->kernels, panel + i * depth, from + (size_t)(i * w.dim[1]) * size,
                w.dtype, depth);
    *ret_row = depth;
    return panel;
}

static void linear_tile(const LinearJob *j, int64_t row, int64_t col, float *panel) {
    int64_t rows = MIN(j->rows, j->y.dim[0] - row), cols = MIN(j->cols, j->y.dim[1] - col);
    int64_t all = j->w.dim[1];
    float *y = view_f32(j->y) + row * j->y.stride[0] + col;
    const float *x = view_f32(j->x) + row * j->x.stride[0];
    for (int64_t i = 0; i < rows; i++)
        if (view_is_null(j->bias))
            memset(y + i * j->y.stride[0], 0, (size_t)cols * sizeof(*y));
        else
            memcpy(y + i * j->y.stride[0], view_f32(j->bias) + col, (size_t)cols * sizeof(*y));
    for (int64_t k = 0; k < all; k += DEPTH) {
        int64_t depth = MIN((int64_t)DEPTH, all - k), w_row;
        const float *w = weights_f32(j, panel, col, cols, k, depth, &w_row);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)rows, (blasint)cols,
                (blasint)depth, 1, x + k, (blasint)j->x.stride[0], w, (blasint)w_row, 1, y,
                (blasint)j->y.stride[0]);
    }
    for (int64_t i = 0; j->act != ACT_NONE && i < rows; i++)
        activate_row(j->b->kernels, y + i * j->y.stride[0], cols, j->act);
}

static void linear_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const LinearJob *j = context;
    for (int64_t i = begin; i < end; i++)
        linear_tile(j, i % j->row_tiles * j->rows, i / j->row_tiles * j->cols,
                j->b->scratch[worker].data);
}

void cpu_linear(Stream *s, View y, View x, View w, View bias, Activation act) {
    int64_t m = y.dim[0], n = y.dim[1], k = MAX(w.dim[1], (int64_t)1);
    if (m == 0 || n == 0)
        return;
    LinearJob j = {.b = cpu_of(s), .y = y, .x = x, .w = w, .bias = bias, .act = act};
    j.rows = m > 8 * ROWS ? 4 * ROWS : ROWS;
    j.cols = PANEL_FLOATS / 2 / (k < 256 ? 256 : k < (int64_t)DEPTH ? k : (int64_t)DEPTH);
    /* Rows of one tile lie a stride apart; one row may have any stride. */
    j.x.stride[0] = MAX(x.stride[0], k);
    j.y.stride[0] = MAX(y.stride[0], n);
    j.row_tiles = (m + j.rows - 1) / j.rows;
    int64_t tiles = j.row_tiles * ((n + j.cols - 1) / j.cols);
    cpu_for_rows(j.b, tiles, m * n / tiles * k / 16, linear_tiles, &j);
}
