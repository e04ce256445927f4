#include "backend/cpu/cpu-impl.h"

#include <string.h>

/* y is cut into tiles of at most ROWS x COLS. A tile's weights are widened and packed, DEPTH of k
 * at a time: what is packed stays in the first-level cache while the tile's rows pass by, and ROWS
 * of them repay the packing. The cut depends on the shapes alone. */
enum { ROWS = 256, COLS = 2 * MMA_BLOCK, DEPTH = 256 };

typedef struct LinearJob {
    CpuBackend *b;
    View y, x, w, bias;
    Activation act;
    int64_t row_tiles;
} LinearJob;

/* What a tile keeps in its thread's scratch. */
typedef struct Panel {
    float packed[COLS * DEPTH];    /* [COLS / MMA_BLOCK][depth][MMA_BLOCK] */
    float wide[MMA_BLOCK * DEPTH]; /* a block's rows, [rows][depth] */
} Panel;
static_assert(sizeof(Panel) <= SCRATCH_FLOATS * sizeof(float), "a panel fits the scratch");

/* w[col .. col + cols][k .. k + depth] as B. */
static void pack_panel(
        const LinearJob *j, Panel *panel, int64_t col, int64_t cols, int64_t k, int64_t depth) {
    const View w = j->w;
    size_t size = dtype_bytes(w.dtype);
    for (int64_t block = 0; block < cols; block += MMA_BLOCK) {
        int64_t rows = MIN((int64_t)MMA_BLOCK, cols - block);
        for (int64_t i = 0; i < rows; i++) {
            int64_t at = (col + block + i) * w.dim[1] + k;
            cpu_widen_row(j->b->kernels, panel->wide + i * depth,
                    (const char *)w.data + (size_t)at * size, w.dtype, depth);
        }
        j->b->kernels->pack(panel->packed + block * depth, panel->wide, depth, rows, depth);
    }
}

static void start_row(const LinearJob *j, float *y, int64_t col, int64_t cols) {
    if (view_is_null(j->bias))
        memset(y, 0, (size_t)cols * sizeof(*y));
    else
        memcpy(y, view_f32(j->bias) + col, (size_t)cols * sizeof(*y));
}

static void activate_row(const LinearJob *j, float *y, int64_t cols) {
    if (j->act == ACT_SILU)
        j->b->kernels->silu(y, y, cols);
    else if (j->act == ACT_GELU_TANH)
        j->b->kernels->gelu(y, y, cols);
}

static void linear_tile(const LinearJob *j, int64_t row, int64_t col, Panel *panel) {
    int64_t rows = MIN((int64_t)ROWS, j->y.dim[0] - row),
            cols = MIN((int64_t)COLS, j->y.dim[1] - col);
    int64_t y_row = j->y.stride[0], all = j->w.dim[1];
    float *y = view_f32(j->y) + row * y_row + col;
    for (int64_t i = 0; i < rows; i++)
        start_row(j, y + i * y_row, col, cols);
    for (int64_t k = 0; k < all; k += DEPTH) {
        int64_t depth = MIN((int64_t)DEPTH, all - k);
        const float *x = view_f32(j->x) + row * j->x.stride[0] + k;
        pack_panel(j, panel, col, cols, k, depth);
        j->b->kernels->mma(&(Mma){.c = y,
                .c_row = y_row,
                .a = &x,
                .n_parts = 1,
                .k = depth,
                .a_row = j->x.stride[0],
                .a_col = 1,
                .b = panel->packed,
                .b_row = MMA_BLOCK,
                .b_block = depth * MMA_BLOCK,
                .rows = rows,
                .cols = cols,
                .add = true});
    }
    for (int64_t i = 0; i < rows; i++)
        activate_row(j, y + i * y_row, cols);
}

static void linear_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const LinearJob *j = context;
    for (int64_t i = begin; i < end; i++)
        linear_tile(j, i % j->row_tiles * ROWS, i / j->row_tiles * COLS,
                (Panel *)j->b->scratch[worker].data);
}

void cpu_linear(Stream *s, View y, View x, View w, View bias, Activation act) {
    int64_t m = y.dim[0], n = y.dim[1], k = w.dim[1];
    LinearJob j = {.b = cpu_of(s), .y = y, .x = x, .w = w, .bias = bias, .act = act};
    j.row_tiles = (m + ROWS - 1) / ROWS;
    int64_t tiles = j.row_tiles * ((n + COLS - 1) / COLS);
    if (tiles > 0)
        cpu_for_rows(j.b, tiles, m * n / tiles * k / MACS_AN_ELEMENT, linear_tiles, &j);
}
