#include "media/codec/resize.h"

#include "base/cleanup.h"

#include <math.h>

#define LOBES 3.0
#define WEIGHT_BITS 22 /* 8 for the pixel, 2 for overshoot: 32 in all */

/* Which source pixels make one wanted pixel. */
typedef struct Taps {
    int64_t first;
    int64_t n;
} Taps;

/* One axis of the resize: the wanted pixels begin .. begin + n - 1 of the resized line. */
typedef struct Axis {
    int64_t n;
    int64_t max_taps;
    Taps *taps;      /* [n] */
    int32_t *weight; /* [n, max_taps] */
} Axis;

static void axis_done(Axis *a) {
    free(a->taps);
    free(a->weight);
}

static double sinc(double x) {
    return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI);
}

static double lanczos(double x) {
    return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
}

static int32_t fixed_point(double w) {
    double scaled = w * (1 << WEIGHT_BITS);
    return (int32_t)(w < 0 ? scaled - 0.5 : scaled + 0.5);
}

static Taps axis_weights(Axis *a, int64_t i, double center, double stretch, int64_t from) {
    double reach = LOBES * stretch, inverse = 1 / stretch, sum = 0;
    int64_t first = MAX((int64_t)(center - reach + 0.5), (int64_t)0);
    int64_t n = MIN((int64_t)(center + reach + 0.5), from) - first;
    assert(n > 0 && n <= a->max_taps);
    for (int64_t t = 0; t < n; t++)
        sum += lanczos(((double)(t + first) - center + 0.5) * inverse);
    for (int64_t t = 0; t < n; t++)
        a->weight[i * a->max_taps + t] =
                fixed_point(lanczos(((double)(t + first) - center + 0.5) * inverse) / sum);
    return (Taps){first, n};
}

/* from pixels become resized pixels, of which n in the middle are wanted. */
static int axis_init(Axis *a, int64_t from, int64_t resized, int64_t n) {
    double scale = (double)from / (double)resized;
    double stretch = scale < 1 ? 1 : scale;
    *a = (Axis){.n = n, .max_taps = (int64_t)ceil(LOBES * stretch) * 2 + 1};
    a->taps = calloc((size_t)n, sizeof(*a->taps));
    a->weight = calloc((size_t)(n * a->max_taps), sizeof(*a->weight));
    if (!a->taps || !a->weight)
        return -ENOMEM;
    int64_t begin = (resized - n) / 2;
    for (int64_t i = 0; i < n; i++)
        a->taps[i] = axis_weights(a, i, ((double)(begin + i) + 0.5) * scale, stretch, from);
    return 0;
}

static uint8_t round_pixel(int32_t sum) {
    int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* One wanted pixel; p is the first source pixel, step bytes before the next. */
static void weigh(const Axis *a, int64_t i, const uint8_t *p, int64_t step, uint8_t *y) {
    const int32_t *w = a->weight + i * a->max_taps;
    int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
    for (int64_t t = 0; t < a->taps[i].n; t++, p += step) {
        r += p[0] * w[t];
        g += p[1] * w[t];
        b += p[2] * w[t];
    }
    y[0] = round_pixel(r);
    y[1] = round_pixel(g);
    y[2] = round_pixel(b);
}

static int cover(const Axis *across, const Axis *down, const uint8_t *x, int64_t x_width,
        uint8_t *y, Err *err) {
    const Taps *last = &down->taps[down->n - 1];
    int64_t first_row = down->taps[0].first, n_rows = last->first + last->n - first_row;
    int64_t row_bytes = across->n * 3;
    _cleanup_free_ uint8_t *rows = malloc((size_t)(n_rows * row_bytes));
    if (!rows)
        return err_set(err, -ENOMEM, "no memory to resize a picture");
    for (int64_t r = 0; r < n_rows; r++) {
        const uint8_t *source = x + (first_row + r) * x_width * 3;
        for (int64_t i = 0; i < across->n; i++)
            weigh(across, i, source + across->taps[i].first * 3, 3, rows + r * row_bytes + i * 3);
    }
    for (int64_t j = 0; j < down->n; j++) {
        const uint8_t *source = rows + (down->taps[j].first - first_row) * row_bytes;
        for (int64_t i = 0; i < across->n; i++)
            weigh(down, j, source + i * 3, row_bytes, y + j * row_bytes + i * 3);
    }
    return 0;
}

int resize_cover(const uint8_t *x, ResizeSize from, uint8_t *y, ResizeSize to, Err *err) {
    double s = fmax((double)to.width / (double)from.width, (double)to.height / (double)from.height);
    /* Rounding s can leave the covering side a pixel short only in theory; never read outside. */
    int64_t width = MAX((int64_t)rint((double)from.width * s), to.width);
    int64_t height = MAX((int64_t)rint((double)from.height * s), to.height);
    _cleanup_(axis_done) Axis across = {0};
    _cleanup_(axis_done) Axis down = {0};
    if (axis_init(&across, from.width, width, to.width) < 0 ||
            axis_init(&down, from.height, height, to.height) < 0)
        return err_set(err, -ENOMEM, "no memory to resize a picture");
    return cover(&across, &down, x, from.width, y, err);
}
