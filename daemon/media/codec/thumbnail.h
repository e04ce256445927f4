/* thumbnail - one frame as a WebP; as a PNG where libavcodec was built without libwebp. */
#ifndef PREHEAT_MEDIA_CODEC_THUMBNAIL_H
#define PREHEAT_MEDIA_CODEC_THUMBNAIL_H

#include "base/err.h"

#include <stdint.h>

/* thumbnail_write - rgb is [height, width, 3] u8 with 64 readable bytes behind it; fd is written
 * from its position on.
 *
 * Returns 0; -ENOTSUP when there is neither encoder; -ENOMEM; -EIO; the file's own errno. */
int thumbnail_write(int fd, const uint8_t *rgb, int64_t width, int64_t height, Err *err);

#endif
