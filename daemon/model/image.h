/* image - the size of a video made from a picture. */
#ifndef PREHEAT_MODEL_IMAGE_H
#define PREHEAT_MODEL_IMAGE_H

#include "base/err.h"

#include <stdint.h>

/* image_fit_size - the size nearest to a picture's aspect ratio whose sides are multiples of
 * `multiple` and whose area is at most `area` pixels.
 *
 * Two candidates, one rounded down from the ideal width and one from the ideal height, the other
 * side following from the area; the one whose ratio is nearer wins, the second on a tie. Either
 * ratio and both sides must be positive. Returns 0; -EINVAL when the picture is so narrow that a
 * side would vanish. Source: Wan2.2 wan/utils/utils.py, best_output_size. */
int image_fit_size(int64_t width, int64_t height, int64_t area, int64_t multiple,
        int64_t *ret_width, int64_t *ret_height, Err *err);

#endif
