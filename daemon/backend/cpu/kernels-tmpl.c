/* The kernels over a vector type; included by kernels-<isa>.c, which defines
 *
 *   Vec, VecI            float and int32_t vectors of LANES
 *   vec_splat, vec_fma, vec_max, vec_min, widen_f16
 *   load_part            the first n < LANES elements, the others 0
 *   store_part           the first n < LANES elements
 *   MMA_ROWS             rows of C in registers at once, a power of two, with one block of columns
 *   MMA_BLOCKS           blocks of columns in registers at once, 1 or 2 (then with half the rows)
 *   KERNELS, KERNELS_NAME */

static_assert(MMA_BLOCK % LANES == 0, "a block is whole vectors");

typedef float VecMem __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define _inline_ inline __attribute__((always_inline))

static _inline_ Vec load(const float *p) {
    return *(const VecMem *)p;
}

static _inline_ void store(float *p, Vec v) {
    *(VecMem *)p = v;
}

static _inline_ float vec_sum(Vec v) {
    float f[LANES];
    memcpy(f, &v, sizeof(f));
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            f[i] += f[i + half];
    return f[0];
}

/* e^x within 2 ulp, subnormal results included; NaN stays.
 *
 * x = n ln2 + r with |r| <= ln2 / 2; e^r by the Taylor polynomial of degree 7, whose remainder
 * there is r^8 / 8! <= 5.2e-9 of e^r, a tenth of an ulp. n ln2 is taken off in two pieces, the
 * first of 9 bits, so that n times it is exact without FMA. 2^n is multiplied in two halves, for
 * 2^128 and 2^-149 are no floats' exponents. */
static _inline_ Vec vec_exp(Vec x) {
    const Vec magic = vec_splat(0x1.8p23f);
    x = vec_max(vec_splat(-110), vec_min(vec_splat(100), x));
    Vec z = x * vec_splat(0x1.715476p0f) + magic;
    Vec n = z - magic;
    VecI ni = (VecI)z - (VecI)magic;
    Vec r = vec_fma(n, vec_splat(-0x1.63p-1f), x);
    r = vec_fma(n, vec_splat(0x1.bd0106p-13f), r);

    Vec p = vec_splat(1.0f / 5040);
    p = vec_fma(p, r, vec_splat(1.0f / 720));
    p = vec_fma(p, r, vec_splat(1.0f / 120));
    p = vec_fma(p, r, vec_splat(1.0f / 24));
    p = vec_fma(p, r, vec_splat(1.0f / 6));
    p = vec_fma(p, r, vec_splat(0.5f));
    p = vec_fma(p * r, r, r) + vec_splat(1);

    VecI low = ni >> 1, high = ni - low;
    return p * (Vec)((low + 127) << 23) * (Vec)((high + 127) << 23);
}

static _inline_ Vec vec_silu(Vec x) {
    return x / (vec_splat(1) + vec_exp(-x));
}

/* 0.5 x (1 + tanh u) = x / (1 + e^-2u): no cancellation where tanh u is near -1. */
static _inline_ Vec vec_gelu(Vec x) {
    Vec u2 =
            vec_splat(1.5957691216057308f) * x * vec_fma(vec_splat(0.044715f) * x, x, vec_splat(1));
    return x / (vec_splat(1) + vec_exp(-u2));
}

static _inline_ Vec vec_act(Vec x, Activation act) {
    return act == ACT_SILU ? vec_silu(x) : act == ACT_GELU_TANH ? vec_gelu(x) : x;
}

/* The same pointer, of which the compiler knows nothing: it would otherwise address all rows from
 * one base, with more offsets than there are registers. */
static _inline_ const float *opaque(const float *p) {
    __asm__("" : "+r"(p));
    return p;
}

/* One tile of C in registers: rows x (blocks * MMA_BLOCK), both constants where it is inlined, as
 * is a_col where it is 1. */
static _inline_ void mma_tile(
        const Mma *m, int64_t row, int64_t col, int rows, int blocks, int64_t a_col) {
    enum { VECS = MMA_BLOCK / LANES };
    Vec acc[MMA_ROWS][MMA_BLOCKS * VECS];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int j = 0; j < blocks * VECS; j++)
            acc[i][j] = vec_splat(0);

    const float *b = m->b + col / MMA_BLOCK * m->b_block;
    for (int64_t p = 0; p < m->n_parts; p++) {
        const float *quad[MMA_ROWS / 4 + 1]; /* rows 0, 4, 8, ... */
        if (!m->a[p]) {
            b += m->k * m->b_row;
            continue;
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i += 4)
            quad[i / 4] = m->a[p] + (row + i) * m->a_row;
        for (int64_t q = 0; q < m->k; q++) {
            Vec w[MMA_BLOCKS * VECS];
#pragma GCC unroll 8
            for (int j = 0; j < blocks * VECS; j++)
                w[j] = load(b + j / VECS * m->b_block + j % VECS * LANES);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                Vec x = vec_splat(quad[i / 4][i % 4 * m->a_row]);
#pragma GCC unroll 8
                for (int j = 0; j < blocks * VECS; j++)
                    acc[i][j] = vec_fma(x, w[j], acc[i][j]);
            }
#pragma GCC unroll 4
            for (int i = 0; i < rows; i += 4)
                quad[i / 4] = opaque(quad[i / 4] + a_col);
            b += m->b_row;
        }
    }

    float *c = m->c + row * m->c_row + col;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++, c += m->c_row)
#pragma GCC unroll 8
        for (int j = 0; j < blocks * VECS; j++) {
            float *to = c + j * LANES;
            int64_t left = m->cols - col - j * LANES;
            if (left >= LANES)
                store(to, m->add ? load(to) + acc[i][j] : acc[i][j]);
            else if (left > 0)
                store_part(to, m->add ? load_part(to, left) + acc[i][j] : acc[i][j], left);
        }
}

/* All rows of one column of tiles: as many at a time as there are registers, then halves of that.
 */
static _inline_ void mma_column(const Mma *m, int64_t col, int blocks, int64_t a_col) {
    const int most = MMA_ROWS / blocks;
    int64_t i = 0;
    for (; i + most <= m->rows; i += most)
        mma_tile(m, i, col, most, blocks, a_col);
    if (most > 8 && i + 8 <= m->rows) {
        mma_tile(m, i, col, MIN(8, most), blocks, a_col);
        i += 8;
    }
    if (most > 4 && i + 4 <= m->rows) {
        mma_tile(m, i, col, MIN(4, most), blocks, a_col);
        i += 4;
    }
    if (most > 2 && i + 2 <= m->rows) {
        mma_tile(m, i, col, MIN(2, most), blocks, a_col);
        i += 2;
    }
    if (i < m->rows)
        mma_tile(m, i, col, 1, blocks, a_col);
}

/* A constant stride of 1 lets the compiler fold it. */
static _inline_ void mma_columns(const Mma *m, int64_t col, int blocks) {
    if (m->a_col == 1)
        mma_column(m, col, blocks, 1);
    else
        mma_column(m, col, blocks, m->a_col);
}

static void mma(const Mma *m) {
    int64_t col = 0;
    for (; MMA_BLOCKS == 2 && col + MMA_BLOCK < m->cols; col += 2 * MMA_BLOCK)
        mma_columns(m, col, MMA_BLOCKS);
    for (; col < m->cols; col += MMA_BLOCK)
        mma_columns(m, col, 1);
}

typedef float Four __attribute__((vector_size(16)));
typedef float FourMem __attribute__((vector_size(16), aligned(4), may_alias));

/* Four rows of x side by side at y, four columns of them. */
static _inline_ void transpose_four(float *y, const float *x, int64_t x_row) {
    Four a = *(const FourMem *)x, b = *(const FourMem *)(x + x_row);
    Four c = *(const FourMem *)(x + 2 * x_row), d = *(const FourMem *)(x + 3 * x_row);
    Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
         cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    *(FourMem *)y = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(FourMem *)(y + MMA_BLOCK) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(FourMem *)(y + 2 * MMA_BLOCK) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(FourMem *)(y + 3 * MMA_BLOCK) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

static void pack(float *y, const float *x, int64_t x_row, int64_t rows, int64_t k) {
    int64_t q = 0;
    for (; rows == MMA_BLOCK && q + 4 <= k; q += 4)
        for (int64_t i = 0; i < MMA_BLOCK; i += 4)
            transpose_four(y + q * MMA_BLOCK + i, x + i * x_row + q, x_row);
    for (; q < k; q++)
        for (int64_t i = 0; i < MMA_BLOCK; i++)
            y[q * MMA_BLOCK + i] = i < rows ? x[i * x_row + q] : 0;
}

static void softmax(const SoftmaxTile *t) {
    for (int64_t i = 0; i < t->lanes; i += LANES) {
        float *s = t->s + i;
        Vec before = load(t->max + i), max = before;
        for (int64_t k = 0; k < t->keys; k++)
            max = vec_max(load(s + k * t->lanes), max);
        Vec factor = vec_exp(before - max), sum = vec_splat(0);
        for (int64_t k = 0; k < t->keys; k++) {
            Vec e = vec_exp(load(s + k * t->lanes) - max);
            store(s + k * t->lanes, e);
            sum += e;
        }
        store(t->factor + i, factor);
        store(t->sum + i, vec_fma(load(t->sum + i), factor, sum));
        store(t->max + i, max);
    }
}

static void widen_bf16(float *y, const void *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)x + 2 * i, sizeof(h));
        y[i] = bf16_to_f32(h);
    }
}

static _inline_ void activate(float *y, const float *x, int64_t n, Activation act) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, vec_act(load(x + i), act));
    if (i < n)
        store_part(y + i, vec_act(load_part(x + i, n - i), act), n - i);
}

static void silu(float *y, const float *x, int64_t n) {
    activate(y, x, n, ACT_SILU);
}

static void gelu(float *y, const float *x, int64_t n) {
    activate(y, x, n, ACT_GELU_TANH);
}

static void geglu(float *y, const float *gate, const float *up, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, vec_gelu(load(gate + i)) * load(up + i));
    if (i < n) {
        int64_t left = n - i;
        store_part(y + i, vec_gelu(load_part(gate + i, left)) * load_part(up + i, left), left);
    }
}

/* Four sums side by side: the adds' latency is hidden and the error grows with n / (4 LANES). */
static _inline_ float sum_of(const float *x, int64_t n, float mean, bool squares) {
    const Vec zero = vec_splat(0), m = vec_splat(mean);
    Vec s[4] = {zero, zero, zero, zero};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int j = 0; j < 4; j++) {
            Vec d = load(x + i + j * LANES) - m;
            s[j] = squares ? vec_fma(d, d, s[j]) : s[j] + d;
        }
    for (; i + LANES <= n; i += LANES) {
        Vec d = load(x + i) - m;
        s[0] = squares ? vec_fma(d, d, s[0]) : s[0] + d;
    }
    float tail = 0;
    for (; i < n; i++) {
        float d = x[i] - mean;
        tail += squares ? d * d : d;
    }
    return vec_sum((s[0] + s[1]) + (s[2] + s[3])) + tail;
}

static void rms_norm(float *y, const float *x, const float *w, int64_t n, float eps) {
    float r = 1 / sqrtf(sum_of(x, n, 0, true) / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
}

typedef struct Moments {
    float mean, inverse_deviation;
} Moments;

static _inline_ Moments moments(const float *x, int64_t n, float eps) {
    float mean = sum_of(x, n, 0, false) / (float)n;
    return (Moments){mean, 1 / sqrtf(sum_of(x, n, mean, true) / (float)n + eps)};
}

static void layer_norm(
        float *y, const float *x, const float *w, const float *bias, int64_t n, float eps) {
    Moments m = moments(x, n, eps);
    if (w)
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - m.mean) * m.inverse_deviation * w[i] + bias[i];
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - m.mean) * m.inverse_deviation;
}

static void norm_modulate(
        float *y, const float *x, const float *shift, const float *scale, int64_t n, float eps) {
    Moments m = moments(x, n, eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - m.mean) * m.inverse_deviation * (1 + scale[i]) + shift[i];
}

static void rope(float *y, const float *x, const float *rope, int64_t n) {
    for (int64_t i = 0; i + 1 < n; i += 2) {
        float a = x[i], b = x[i + 1], cosine = rope[i], sine = rope[i + 1];
        y[i] = a * cosine - b * sine;
        y[i + 1] = a * sine + b * cosine;
    }
}

static void add(float *x, const float *h, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] += h[i];
}

static void add_gated(float *x, const float *h, const float *gate, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        x[i] += h[i] * gate[i];
}

static _inline_ void vae_norm_as(
        float *y, const float *x, const float *gamma, int64_t rows, int64_t n, Activation act) {
    const float root = sqrtf((float)n);
    for (int64_t row = 0; row < rows; row++, x += n, y += n) {
        Vec r = vec_splat(root / fmaxf(sqrtf(sum_of(x, n, 0, true)), 1e-12f));
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES)
            store(y + i, vec_act(load(x + i) * r * load(gamma + i), act));
        if (i < n) {
            int64_t left = n - i;
            Vec v = load_part(x + i, left) * r * load_part(gamma + i, left);
            store_part(y + i, vec_act(v, act), left);
        }
    }
}

static void vae_norm(
        float *y, const float *x, const float *gamma, int64_t rows, int64_t n, Activation act) {
    if (act == ACT_SILU)
        vae_norm_as(y, x, gamma, rows, n, ACT_SILU);
    else if (act == ACT_GELU_TANH)
        vae_norm_as(y, x, gamma, rows, n, ACT_GELU_TANH);
    else
        vae_norm_as(y, x, gamma, rows, n, ACT_NONE);
}

const Kernels KERNELS = {
        .name = KERNELS_NAME,
        .mma = mma,
        .pack = pack,
        .softmax = softmax,
        .widen_bf16 = widen_bf16,
        .widen_f16 = widen_f16,
        .silu = silu,
        .gelu = gelu,
        .geglu = geglu,
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .norm_modulate = norm_modulate,
        .rope = rope,
        .add = add,
        .add_gated = add_gated,
        .vae_norm = vae_norm,
};
