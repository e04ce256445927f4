/* resize - Lanczos to cover a wanted size, then the centre of it.
 *
 * Pixels are [height, width, 3] u8. */
#ifndef PREHEAT_MEDIA_CODEC_RESIZE_H
#define PREHEAT_MEDIA_CODEC_RESIZE_H

#include "base/err.h"

#include <stdint.h>

typedef struct ResizeSize {
    int64_t width, height;
} ResizeSize;

/* resize_cover - with s = max(to.width / from.width, to.height / from.height): Lanczos (3 lobes,
 * widened by 1/s when shrinking) to round(from.width * s) x round(from.height * s), ties to even,
 * then the window of the wanted size at half the excess, rounded down.
 *
 *   y  the caller's, of the wanted size; not x
 *
 * Weights in f64, then 22 fractional bits; rows first, rounded to u8, then columns: Pillow's
 * arithmetic, equal in every byte. Only what the window needs is computed, so that neither time
 * nor memory grow with the excess.
 * Returns 0 or -ENOMEM.
 * Source: Wan2.2 wan/textimage2video.py, i2v. */
int resize_cover(const uint8_t *x, ResizeSize from, uint8_t *y, ResizeSize to, Err *err);

#endif
