/* sniff - what a picture's first bytes and chunks say, read before any decoder sees them.
 *
 * Told by the content, never by a name. Walks the container once from end to end, so that a file
 * that was cut is known as such. */
#ifndef PREHEAT_MEDIA_CODEC_SNIFF_H
#define PREHEAT_MEDIA_CODEC_SNIFF_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef enum PictureKind { PICTURE_PNG, PICTURE_JPEG, PICTURE_WEBP } PictureKind;

typedef struct Sniffed {
    PictureKind kind;
    uint32_t width, height; /* as stored, before the orientation; not 0 */
    int orientation;        /* EXIF 1 to 8; 1 where there is none */
} Sniffed;

/* sniff_picture - Returns 0 or -EBADMSG with what was wrong where. */
int sniff_picture(const uint8_t *data, size_t n, Sniffed *ret, Err *err);

#endif
