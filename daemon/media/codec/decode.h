/* decode - a PNG, JPEG or WebP as upright RGB pixels. */
#ifndef PREHEAT_MEDIA_CODEC_DECODE_H
#define PREHEAT_MEDIA_CODEC_DECODE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Decoded {
    uint8_t *rgb; /* [height, width, 3], owned */
    int64_t width, height;
} Decoded;

/* decode_picture - sizes and container are checked (see sniff.h) before the decoder runs.
 *
 * Alpha is dropped, not blended. 16-bit samples keep their upper byte. Gray becomes three equal
 * channels. PNG is exact; JPEG and lossy WebP are BT.601 as their formats say.
 *
 * Returns 0; -EBADMSG; -EFBIG beyond max_pixels; -ENOMEM; -ENOTSUP when libavcodec has no decoder.
 */
int decode_picture(const uint8_t *data, size_t n, int64_t max_pixels, Decoded *ret, Err *err);

void decoded_done(Decoded *d);

#endif
