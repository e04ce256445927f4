/* op_copy, op_fill, op_add, op_add_gated, op_lincomb, op_count_nonfinite, op_patchify,
 * op_unpatchify, op_to_channels_last, op_to_channels_first. */
#include "harness.h"

#include "base/macro.h"

#include <inttypes.h>
#include <stdlib.h>

static const int64_t matrix_shapes[][2] = {
        {1, 1}, {1, 9}, {7, 8}, {8, 7}, {9, 31}, {5, 4096}, {3, 5003}, {67, 160}};

/* Round to nearest, ties to even, of a format with p bits of significand and exponents from e_min
 * on; nearbyint() does, in the default mode. */
static double nearest(double v, int p, int e_min, double largest) {
    if (v == 0 || !isfinite(v))
        return v;
    double unit = ldexp(1, MAX(ilogb(v), e_min) - p + 1), r = nearbyint(v / unit) * unit;
    return fabs(r) > largest ? copysign(INFINITY, v) : r;
}

static double narrowed(double v, DType dtype) {
    return dtype == DTYPE_F16 ? nearest(v, 11, -14, 65504) : nearest(v, 8, -126, 0x1.fep127);
}

static void copy_check(Test *t) {
    static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (size_t i = 0; i < ARRAY_LEN(matrix_shapes); i++)
        for (int k = 0; k < 18; k++) {
            const int64_t *d = matrix_shapes[i];
            DType from = dtypes[k % 3], to = dtypes[k / 3 % 3];
            Layout x_layout = {.gap = k >= 9 ? 3 : 0}, y_layout = {.gap = k >= 9 && i % 2 ? 5 : 0};
            if (!case_begin(t, "[%" PRId64 ",%" PRId64 "] %s -> %s%s", d[0], d[1], dtype_name(from),
                        dtype_name(to), k >= 9 ? ", strided" : ""))
                continue;
            Tensor *x = tensor(t, "x", ROLE_IN, from, x_layout, d[0], d[1]);
            Tensor *y = tensor(t, "y", ROLE_OUT, to, y_layout, d[0], d[1]);
            op_copy(t->stream, y->view, x->view);
            for (int64_t j = 0; j < d[0] * d[1]; j++) {
                double v = x->value[j];
                tensor_want(t, y, j, to == DTYPE_F32 ? v : narrowed(v, to), 0);
                y->tolerance[j] = 0; /* exactly that */
            }
            case_end(t);
        }
}

/* Frames taken out of two thirds of a wider video: strides on every axis but the last. */
static void copy_part_check(Test *t) {
    if (!case_begin(t, "part of a video"))
        return;
    Tensor *x = tensor(t, "x", ROLE_IN, t->act, DENSE, 4, 5, 6, 7);
    Tensor *y = tensor(t, "y", ROLE_OUT, DTYPE_F32, DENSE, 2, 5, 6, 3);
    op_copy(t->stream, y->view, view_cols(view_every(x->view, 1, 2), 2, 3));
    for (int64_t i = 0; i < view_count(y->view); i++) {
        int64_t c = i % 3, place = i / 3 % 30, frame = i / 90;
        tensor_want(t, y, i, x->value[((frame * 2 + 1) * 30 + place) * 7 + c + 2], 0);
    }
    case_end(t);
}

/* Ends, ties and subnormals of the narrow formats. */
static void copy_special_check(Test *t) {
    static const double values[] = {0, 0x1p-14, 0x1.ffcp-15, 0x1p-24, 0x1p-25, 0x1.000002p-25,
            0x1.8p-24, 0x1.4p-23, 0x1.002p0, 0x1.006p0, 0x1.01p0, 0x1.03p0, 65504, 65519, 65520,
            0x1.fefffep127, 0x1.ffp127, 0x1p-126, 0x1p-133, 0x1p-134, 0x1.8p-133, 0x1p-149,
            INFINITY, NAN};
    static const DType dtypes[] = {DTYPE_F16, DTYPE_BF16};
    enum { N = 2 * (int)ARRAY_LEN(values) };
    for (size_t k = 0; k < ARRAY_LEN(dtypes); k++) {
        if (!case_begin(t, "ends, ties and subnormals to %s", dtype_name(dtypes[k])))
            continue;
        Tensor *x = tensor(t, "x", ROLE_INOUT, DTYPE_F32, DENSE, N);
        Tensor *y = tensor(t, "y", ROLE_OUT, dtypes[k], DENSE, N);
        for (int i = 0; i < N; i++) {
            double v = i % 2 ? -values[i / 2] : values[i / 2];
            op_fill(t->stream, view_rows(x->view, i, 1), (float)v);
            tensor_want(t, x, i, v, 0);
            tensor_want(t, y, i, narrowed(v, dtypes[k]), 0);
            y->tolerance[i] = 0; /* exactly that */
        }
        op_copy(t->stream, y->view, x->view);
        case_end(t);
    }
}

static void copies_check(Test *t) {
    copy_check(t);
    copy_special_check(t);
    copy_part_check(t);
}

static void fill_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(matrix_shapes); i++)
        for (int k = 0; k < 4; k++) {
            const int64_t *d = matrix_shapes[i];
            if (!case_begin(t, "[%" PRId64 ",%" PRId64 "]%s", d[0], d[1], k % 2 ? ", strided" : ""))
                continue;
            Tensor *y = tensor(t, "y", ROLE_OUT, k / 2 ? DTYPE_F32 : t->act,
                    ((Layout){.gap = k % 2 ? 7 : 0}), d[0], d[1]);
            op_fill(t->stream, y->view, -1.5f);
            for (int64_t j = 0; j < d[0] * d[1]; j++)
                tensor_want(t, y, j, -1.5, 0);
            case_end(t);
        }
}

static void add_case(Test *t, const int64_t d[2], int k, bool gated) {
    DType x_dtype = k % 2 ? DTYPE_F32 : t->act, h_dtype = k / 2 % 2 ? DTYPE_F32 : t->act;
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 "] %s += %s%s", d[0], d[1], dtype_name(x_dtype),
                dtype_name(h_dtype), k / 4 ? ", strided" : ""))
        return;
    Tensor *x = tensor(t, "x", ROLE_INOUT, x_dtype, ((Layout){.gap = k / 4 * 3}), d[0], d[1]);
    Tensor *h = tensor(t, "h", ROLE_IN, h_dtype, ((Layout){.gap = k / 4 * 9}), d[0], d[1]);
    Tensor *gate = weight(t, "gate", WEIGHT_VECTOR, DTYPE_F32, d[1]);
    if (gated)
        op_add_gated(t->stream, x->view, h->view, gate->view);
    else
        op_add(t->stream, x->view, h->view);
    for (int64_t i = 0; i < d[0] * d[1]; i++) {
        double term = h->value[i] * (gated ? gate->value[i % d[1]] : 1);
        tensor_want(t, x, i, x->value[i] + term, U_F32 * (fabs(x->value[i]) + 2 * fabs(term)));
    }
    case_end(t);
}

static void add_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(matrix_shapes); i++)
        for (int k = 0; k < 8; k++)
            add_case(t, matrix_shapes[i], k, false);
}

static void add_gated_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(matrix_shapes); i++)
        for (int k = 0; k < 8; k++)
            add_case(t, matrix_shapes[i], k, true);
}

static void lincomb_case(Test *t, int64_t count, int n, int alias) {
    if (!case_begin(t, "%d of %" PRId64 ", y is %d", n, count, alias))
        return;
    Tensor *x[4], *y = NULL;
    View views[4];
    float a[4];
    for (int k = 0; k < n; k++) {
        x[k] = tensor(t, "x", k == alias ? ROLE_INOUT : ROLE_IN, DTYPE_F32, DENSE, count);
        views[k] = x[k]->view;
        a[k] = (float)random_value(t, DTYPE_F32, 3);
        if (k == alias)
            y = x[k];
    }
    if (!y)
        y = tensor(t, "y", ROLE_OUT, DTYPE_F32, DENSE, count);
    op_lincomb(t->stream, y->view, n, views, a);
    for (int64_t i = 0; i < count; i++) {
        Sum s = {0};
        for (int k = 0; k < n; k++)
            sum_add(&s, (double)a[k] * x[k]->value[i]);
        tensor_want(t, y, i, s.value, 2 * n * U_F32 * s.magnitude);
    }
    case_end(t);
}

static void lincomb_check(Test *t) {
    static const int64_t counts[] = {1, 7, 8, 9, 4099, 20000};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        for (int n = 1; n <= 4; n++)
            for (int alias = -1; alias < n; alias++)
                lincomb_case(t, counts[i], n, alias);
}

static void count_case(Test *t, int64_t count) {
    if (!case_begin(t, "%" PRId64, count))
        return;
    Tensor *x = tensor(t, "x", ROLE_INOUT, DTYPE_F32, DENSE, count);
    Tensor *y = tensor(t, "y", ROLE_OUT, DTYPE_I32, DENSE, 1);
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    int64_t n_odd = 0;
    for (int64_t i = 0; i < count; i++) {
        if (random_index(t, 50) != 0 && i != count - 1)
            continue;
        op_fill(t->stream, view_rows(x->view, i, 1), odd[n_odd % 3]);
        n_odd++;
    }
    op_count_nonfinite(t->stream, y->view, x->view);
    op_fill(t->stream, x->view, 1); /* so that x can be judged */
    for (int64_t i = 0; i < count; i++)
        tensor_want(t, x, i, 1, 0);
    tensor_want(t, y, 0, (double)n_odd, 0);
    case_end(t);
}

static void count_check(Test *t) {
    static const int64_t counts[] = {1, 7, 8, 9, 1031, 4097, 50021};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        count_case(t, counts[i]);
}

static const struct LatentShape {
    int64_t dim[4]; /* c, t, h, w */
    int p;
} latent_shapes[] = {
        {{1, 1, 1, 1}, 1},
        {{16, 5, 8, 8}, 2},
        {{7, 3, 10, 6}, 2},
        {{48, 1, 4, 14}, 2},
        {{5, 2, 9, 6}, 3},
        {{9, 7, 3, 5}, 1},
};

/* Token, and the place in it, of latent (c, t, row, col). */
static void latent_place(const int64_t d[4], int p, int64_t i, int64_t ret[5]) {
    int64_t col = i % d[3], row = i / d[3] % d[2], t = i / d[3] / d[2] % d[1];
    ret[0] = (t * (d[2] / p) + row / p) * (d[3] / p) + col / p;
    ret[1] = i / d[3] / d[2] / d[1];
    ret[2] = row % p;
    ret[3] = col % p;
}

static void patchify_case(Test *t, const int64_t d[4], int p, bool back) {
    int64_t tokens = d[1] * (d[2] / p) * (d[3] / p), width = d[0] * p * p;
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "] by %d", d[0], d[1], d[2],
                d[3], p))
        return;
    Tensor *latents = tensor(
            t, "latents", back ? ROLE_OUT : ROLE_IN, DTYPE_F32, DENSE, d[0], d[1], d[2], d[3]);
    Tensor *rows = tensor(t, "tokens", back ? ROLE_IN : ROLE_OUT, back ? DTYPE_F32 : t->act, DENSE,
            tokens, width);
    if (back)
        op_unpatchify(t->stream, latents->view, rows->view, p);
    else
        op_patchify(t->stream, rows->view, latents->view, p);
    for (int64_t i = 0; i < view_count(latents->view); i++) {
        int64_t at[5];
        latent_place(d, p, i, at);
        if (back)
            tensor_want(t, latents, i,
                    rows->value[at[0] * width + (at[2] * p + at[3]) * d[0] + at[1]], 0);
        else
            tensor_want(
                    t, rows, at[0] * width + (at[1] * p + at[2]) * p + at[3], latents->value[i], 0);
    }
    case_end(t);
}

static void patchify_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(latent_shapes); i++)
        patchify_case(t, latent_shapes[i].dim, latent_shapes[i].p, false);
}

static void unpatchify_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(latent_shapes); i++)
        patchify_case(t, latent_shapes[i].dim, latent_shapes[i].p, true);
}

static void channels_case(Test *t, const int64_t d[4], bool last) {
    int64_t plane = d[1] * d[2] * d[3], c = d[0];
    if (!case_begin(t, "[%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "]", d[0], d[1], d[2], d[3]))
        return;
    Tensor *first =
            tensor(t, "first", last ? ROLE_IN : ROLE_OUT, DTYPE_F32, DENSE, d[0], d[1], d[2], d[3]);
    /* Channels first may be read from the first c of wider rows. */
    int64_t wide = last ? c : c + (c + 7) / 8 * 8;
    Tensor *video =
            tensor(t, "last", last ? ROLE_OUT : ROLE_IN, t->act, DENSE, d[1], d[2], d[3], wide);
    Tensor *scale = weight(t, "scale", WEIGHT_VECTOR, DTYPE_F32, c);
    Tensor *shift = weight(t, "shift", WEIGHT_VECTOR, DTYPE_F32, c);
    if (last)
        op_to_channels_last(t->stream, video->view, first->view, scale->view, shift->view);
    else
        op_to_channels_first(
                t->stream, first->view, view_cols(video->view, 0, c), scale->view, shift->view);
    for (int64_t i = 0; i < plane * c; i++) {
        int64_t k = i / plane, at = i % plane * wide + k;
        double x = last ? first->value[i] : video->value[at], a = scale->value[k] * x;
        tensor_want(t, last ? video : first, last ? at : i, a + shift->value[k],
                2 * U_F32 * (fabs(a) + fabs(shift->value[k])));
    }
    case_end(t);
}

static void channels_last_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(latent_shapes); i++)
        channels_case(t, latent_shapes[i].dim, true);
}

static void channels_first_check(Test *t) {
    for (size_t i = 0; i < ARRAY_LEN(latent_shapes); i++)
        channels_case(t, latent_shapes[i].dim, false);
}

typedef struct CopyBench {
    View y, x;
} CopyBench;

static void copy_call(Stream *s, const void *context) {
    const CopyBench *b = context;
    op_copy(s, b->y, b->x);
}

static void copy_bench(Test *t) {
    static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16};
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
        enum { N = 1 << 20 };
        if (!case_begin(t, "%d %s -> F32", N, dtype_name(dtypes[i])))
            continue;
        CopyBench b = {.x = tensor(t, "x", ROLE_IN, dtypes[i], DENSE, N)->view,
                .y = tensor(t, "y", ROLE_OUT, DTYPE_F32, DENSE, N)->view};
        bench_print(t, t->shape, bench_time(t, copy_call, &b), N,
                N * (4.0 + (double)dtype_bytes(dtypes[i])));
        case_end(t);
    }
}

const Suite suites_element[] = {
        {"copy", copies_check, copy_bench},
        {"fill", fill_check, NULL},
        {"add", add_check, NULL},
        {"add_gated", add_gated_check, NULL},
        {"lincomb", lincomb_check, NULL},
        {"count_nonfinite", count_check, NULL},
        {"patchify", patchify_check, NULL},
        {"unpatchify", unpatchify_check, NULL},
        {"to_channels_last", channels_last_check, NULL},
        {"to_channels_first", channels_first_check, NULL},
        {0},
};
