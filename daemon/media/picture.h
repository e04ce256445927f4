/* picture - a client's PNG, JPEG or WebP as RGB of a wanted size, decoded by the child
 * preheat-media. */
#ifndef PREHEAT_MEDIA_PICTURE_H
#define PREHEAT_MEDIA_PICTURE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct PictureOptions {
    const char *program;         /* path of preheat-media */
    int64_t width, height;       /* wanted; Lanczos resize to cover it, then centre crop */
    int64_t max_pixels;          /* refuse larger sources before decoding them */
    uint64_t timeout_usec;       /* for the whole picture */
    uint64_t memory_limit_bytes; /* of the child's address space; 0 for 1 GiB */
} PictureOptions;

/* picture_decode - into rgb, [height, width, 3] u8.
 *
 * The kind is told by the content. The camera's orientation (EXIF) is applied; transparency is
 * dropped, of an animation only a still PNG's default image is taken. rgb is unspecified after a
 * failure.
 *
 * Returns 0; -EBADMSG (not a picture of these three kinds, or damaged); -EFBIG; -ENOMEM (needs more
 * than the memory limit); -EPIPE; -ETIMEDOUT.
 * Source: Wan2.2 wan/textimage2video.py, i2v: the resize and crop of the first frame; Pillow's
 * Lanczos in 8-bit arithmetic, equal in every byte (tests/unit/media/test-resize.c). */
int picture_decode(
        const PictureOptions *options, const void *data, size_t n, uint8_t *rgb, Err *err);

#endif
