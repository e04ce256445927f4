#include "model/image.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

typedef struct Size {
    int64_t w, h;
} Size;

static int64_t round_down(double x, int64_t multiple) {
    return (int64_t)floor(x / (double)multiple) * multiple;
}

/* How far the size's ratio is from the wanted one, 1 when equal; never chosen when a side is 0. */
static double mismatch(Size s, double ratio) {
    if (s.w == 0 || s.h == 0)
        return INFINITY;
    double found = (double)s.w / (double)s.h;
    return fmax(ratio / found, found / ratio);
}

int image_fit_size(int64_t width, int64_t height, int64_t area, int64_t multiple,
        int64_t *ret_width, int64_t *ret_height, Err *err) {
    assert(width > 0 && height > 0 && area > 0 && multiple > 0);
    double budget = (double)area, ratio = (double)width / (double)height;
    double w = sqrt(budget * ratio), h = budget / w;
    Size a = {.w = round_down(w, multiple)}, b = {.h = round_down(h, multiple)};
    if (a.w > 0)
        a.h = round_down(budget / (double)a.w, multiple);
    if (b.h > 0)
        b.w = round_down(budget / (double)b.h, multiple);

    Size best = mismatch(a, ratio) < mismatch(b, ratio) ? a : b;
    if (best.w == 0 || best.h == 0)
        return err_set(err, -EINVAL,
                "a picture of %" PRId64 "x%" PRId64 " pixels is too narrow for a video of %" PRId64
                " pixels with sides that are multiples of %" PRId64,
                width, height, area, multiple);
    *ret_width = best.w;
    *ret_height = best.h;
    return 0;
}
