#include "backend/cpu/cpu-impl.h"

#include <string.h>

/* A direct convolution. One item is a tile of ROWS x COLS pixels of one output frame. Its input
 * lines (a line is one row of one input frame, as wide as the tile and its kernel need) are copied
 * to scratch with their padding, or read where they are if there is none. With channels last, what
 * a kernel row sees of a line, [kw][c_in], is contiguous, and so is the packed weight of that row:
 * each line adds one product of depth kw * c_in to every pixel of the row. Weights are walked in
 * pieces of DEPTH that stay in the first-level cache while all rows of the tile pass by. */
enum { ROWS = 8, COLS = 64, DEPTH = 256, TILE_FLOATS = 128 * 1024, MAX_LINES = DEPTH };
static_assert((int)TILE_FLOATS <= (int)SCRATCH_FLOATS, "a tile's lines fit the scratch");

typedef struct ConvJob {
    CpuBackend *b;
    const ConvArgs *a;
    int64_t p;          /* frames of prev */
    int64_t kt, kh, kw; /* of the kernel */
    int64_t c_in, c_out;
    int64_t rows, cols; /* pixels of a tile */
    int64_t row_tiles, col_tiles, channel_tiles;
    int64_t channels; /* of one item, a multiple of 2 MMA_BLOCK unless all */
    int64_t lines;    /* a tile's lines in one frame */
    int64_t line_pixels;
    bool in_place; /* lines are read where they are */
} ConvJob;

typedef struct Tile {
    int64_t t, row, col, channel; /* first output of the item */
    int64_t rows, cols, channels;
    float *lines; /* [kt][lines][line_pixels][c_in], unless in place */
} Tile;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* The source of input line `row` (in padded coordinates) of input frame `frame` (the zero frames
 * counted); NULL where it is padding. */
static const float *line_source(const ConvJob *j, int64_t frame, int64_t row) {
    const ConvArgs *a = j->a;
    frame -= a->zero_frames;
    row -= a->pad_lo;
    if (row < 0 || frame < 0)
        return NULL;
    if (a->upsample)
        row /= 2;
    View v = frame < j->p ? a->prev : a->x;
    if (frame >= j->p)
        frame -= j->p;
    if (row >= v.dim[1])
        return NULL;
    return view_f32(v) + frame * v.stride[0] + row * v.dim[2] * j->c_in;
}

static void copy_line(const ConvJob *j, float *to, const float *from, int64_t col) {
    const ConvArgs *a = j->a;
    int64_t c = j->c_in, width = a->x.dim[2] * (a->upsample ? 2 : 1);
    int64_t begin = MAX(col, (int64_t)0), end = MIN(col + j->line_pixels, width);
    end = MAX(begin, end);
    memset(to, 0, (size_t)((begin - col) * c) * sizeof(*to));
    float *y = to + (begin - col) * c;
    if (!a->upsample) {
        memcpy(y, from + begin * c, (size_t)((end - begin) * c) * sizeof(*y));
        y += (end - begin) * c;
    } else {
        for (int64_t i = begin; i < end; i++, y += c)
            memcpy(y, from + i / 2 * c, (size_t)c * sizeof(*y));
    }
    memset(y, 0, (size_t)((col + j->line_pixels - end) * c) * sizeof(*y));
}

static float *tile_line(const ConvJob *j, const Tile *tile, int64_t kt, int64_t line) {
    return tile->lines + (kt * j->lines + line) * j->line_pixels * j->c_in;
}

static void copy_lines(const ConvJob *j, const Tile *tile) {
    const ConvArgs *a = j->a;
    int64_t n = (tile->rows - 1) * a->stride_s + j->kh;
    for (int64_t kt = 0; kt < j->kt; kt++)
        for (int64_t line = 0; line < n; line++) {
            const float *from =
                    line_source(j, tile->t * a->stride_t + kt, tile->row * a->stride_s + line);
            if (from)
                copy_line(
                        j, tile_line(j, tile, kt, line), from, tile->col * a->stride_s - a->pad_lo);
        }
}

/* Where kernel line k (time slow, height fast) of output row r of the tile starts; NULL: zeros. */
static const float *kernel_line(const ConvJob *j, const Tile *tile, int64_t k, int64_t r) {
    const ConvArgs *a = j->a;
    int64_t kt = k / j->kh, line = r * a->stride_s + k % j->kh;
    const float *from = line_source(j, tile->t * a->stride_t + kt, tile->row * a->stride_s + line);
    if (!from)
        return NULL;
    return j->in_place ? from + tile->col * a->stride_s * j->c_in : tile_line(j, tile, kt, line);
}

static float *output_at(const ConvJob *j, const Tile *tile, View v, int64_t r, int64_t channel) {
    return view_f32(v) + tile->t * v.stride[0] +
           ((tile->row + r) * v.dim[2] + tile->col) * j->c_out + channel;
}

static void start_output(const ConvJob *j, const Tile *tile) {
    const float *bias = view_f32(j->a->bias) + tile->channel;
    for (int64_t r = 0; r < tile->rows; r++) {
        float *y = output_at(j, tile, j->a->y, r, tile->channel);
        const float *add =
                view_is_null(j->a->add) ? NULL : output_at(j, tile, j->a->add, r, tile->channel);
        for (int64_t i = 0; i < tile->cols; i++)
            for (int64_t c = 0; c < tile->channels; c++)
                y[i * j->c_out + c] = add ? add[i * j->c_out + c] + bias[c] : bias[c];
    }
}

/* n_lines kernel lines from k on, columns q .. q + depth of each, into channels [from, to). */
typedef struct Piece {
    int64_t k, n_lines, q, depth, from, to;
} Piece;

static void add_piece(const ConvJob *j, const Tile *tile, const Piece *p) {
    const float *lines[MAX_LINES];
    int64_t wide = j->kw * j->c_in, all = j->kt * j->kh * wide;
    const float *w = view_f32(j->a->w) + p->from * all + (p->k * wide + p->q) * MMA_BLOCK;
    for (int64_t r = 0; r < tile->rows; r++) {
        for (int64_t i = 0; i < p->n_lines; i++) {
            const float *line = kernel_line(j, tile, p->k + i, r);
            lines[i] = line ? line + p->q : NULL;
        }
        j->b->kernels->mma(&(Mma){.c = output_at(j, tile, j->a->y, r, p->from),
                .c_row = j->c_out,
                .a = lines,
                .n_parts = p->n_lines,
                .k = p->depth,
                .a_row = j->a->stride_s * j->c_in,
                .a_col = 1,
                .b = w,
                .b_row = MMA_BLOCK,
                .b_block = all * MMA_BLOCK,
                .rows = tile->cols,
                .cols = p->to - p->from,
                .add = true});
    }
}

static void convolve(const ConvJob *j, const Tile *tile) {
    int64_t wide = j->kw * j->c_in, n_lines = j->kt * j->kh, end = tile->channel + tile->channels;
    int64_t at_once = MAX(DEPTH / wide, (int64_t)1);
    for (int64_t c = tile->channel; c < end; c += 2 * MMA_BLOCK)
        for (int64_t k = 0; k < n_lines; k += at_once)
            for (int64_t q = 0; q < wide; q += DEPTH) {
                Piece p = {.k = k, .q = q, .from = c, .to = MIN(c + 2 * MMA_BLOCK, end)};
                p.n_lines = MIN(at_once, n_lines - k);
                p.depth = MIN((int64_t)DEPTH, wide - q);
                add_piece(j, tile, &p);
            }
}

static void convolve_tiles(void *context, int64_t begin, int64_t end, int worker) {
    const ConvJob *j = context;
    const View y = j->a->y;
    for (int64_t item = begin; item < end; item++) {
        int64_t i = item;
        Tile tile = {.lines = j->b->scratch[worker].data};
        tile.channel = i % j->channel_tiles * j->channels;
        i /= j->channel_tiles;
        tile.col = i % j->col_tiles * j->cols;
        i /= j->col_tiles;
        tile.row = i % j->row_tiles * j->rows;
        tile.t = i / j->row_tiles;
        tile.rows = MIN(j->rows, y.dim[1] - tile.row);
        tile.cols = MIN(j->cols, y.dim[2] - tile.col);
        tile.channels = MIN(j->channels, j->c_out - tile.channel);
        if (!j->in_place)
            copy_lines(j, &tile);
        start_output(j, &tile);
        convolve(j, &tile);
    }
}

static size_t job_lines_floats(ConvJob *j) {
    j->lines = (j->rows - 1) * j->a->stride_s + j->kh;
    j->line_pixels = (j->cols - 1) * j->a->stride_s + j->kw;
    return (size_t)(j->kt * j->lines * j->line_pixels * j->c_in);
}

/* The cut depends on the shapes alone: results must not depend on the number of threads. */
static void job_cut(ConvJob *j) {
    const View y = j->a->y;
    j->rows = MIN((int64_t)ROWS, y.dim[1]);
    j->cols = MIN((int64_t)COLS, y.dim[2]);
    while (job_lines_floats(j) > TILE_FLOATS && j->rows > 1)
        j->rows = (j->rows + 1) / 2;
    while (job_lines_floats(j) > TILE_FLOATS && j->cols > 1)
        j->cols = (j->cols + 1) / 2;
    j->row_tiles = ceil_div(y.dim[1], j->rows);
    j->col_tiles = ceil_div(y.dim[2], j->cols);
    /* Few tiles: let channels go to different threads too, though each copies the lines. */
    bool few = y.dim[0] * j->row_tiles * j->col_tiles < 8;
    j->channels = few ? MIN((int64_t)2 * MMA_BLOCK, j->c_out) : j->c_out;
    j->channel_tiles = ceil_div(j->c_out, j->channels);
}

static ConvJob job_init(CpuBackend *b, const ConvArgs *a) {
    const View w = a->w;
    ConvJob j = {.b = b, .a = a, .c_out = w.dim[0], .c_in = w.dim[1]};
    j.p = view_is_null(a->prev) ? 0 : a->prev.dim[0];
    j.kt = w.rank == 5 ? w.dim[2] : 1;
    j.kh = w.dim[w.rank - 2];
    j.kw = w.dim[w.rank - 1];
    j.in_place = !a->upsample && a->pad_lo == 0 && a->pad_hi == 0;
    job_cut(&j);
    return j;
}

void cpu_conv(Stream *s, const ConvArgs *a) {
    if (view_count(a->y) == 0)
        return;
    ConvJob j = job_init(cpu_of(s), a);
    if (!j.in_place && !scratch_reserve(s, job_lines_floats(&j), "conv"))
        return;
    pool_for(j.b->pool, a->y.dim[0] * j.row_tiles * j.col_tiles * j.channel_tiles, 1,
            convolve_tiles, &j);
}

size_t conv_packed_floats(View w) {
    return (size_t)(view_count(w) / MAX(w.dim[0], (int64_t)1) * ceil_div(w.dim[0], MMA_BLOCK) *
                    MMA_BLOCK);
}

typedef struct PackJob {
    CpuBackend *b;
    float *packed;
    View w;
} PackJob;

/* Item: one block of output channels. A channel's weights, [c_in][taps], become [taps][c_in]. Keeps
 * off the scratch: weights may be packed while another thread computes. */
static void pack_blocks(void *context, int64_t begin, int64_t end, int worker) {
    const PackJob *j = context;
    const View w = j->w;
    int64_t c_in = w.dim[1], n = w.dim[0] ? view_count(w) / w.dim[0] : 0,
            taps = c_in ? n / c_in : 0;
    float row[64];
    memset(j->packed + begin * n * MMA_BLOCK, 0,
            (size_t)((end - begin) * n * MMA_BLOCK) * sizeof(*row));
    for (int64_t o = begin * MMA_BLOCK; o < MIN(end * MMA_BLOCK, w.dim[0]); o++) {
        float *to = j->packed + o / MMA_BLOCK * n * MMA_BLOCK + o % MMA_BLOCK;
        for (int64_t i = 0; i < n; i += (int64_t)ARRAY_LEN(row)) {
            int64_t n_row = MIN(n - i, (int64_t)ARRAY_LEN(row));
            cpu_widen_row(j->b->kernels, row,
                    (const char *)w.data + (size_t)(o * n + i) * dtype_bytes(w.dtype), w.dtype,
                    n_row);
            for (int64_t k = 0; k < n_row; k++)
                to[((i + k) % taps * c_in + (i + k) / taps) * MMA_BLOCK] = row[k];
        }
    }
}

void conv_pack(CpuBackend *b, float *packed, View w) {
    PackJob j = {b, packed, w};
    pool_for(b->pool, ceil_div(w.dim[0], MMA_BLOCK), 1, pack_blocks, &j);
}
