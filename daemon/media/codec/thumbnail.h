/* thumbnail - one frame as a WebP; as a PNG where libavcodec was built without libwebp. */
#ifndef PREHEAT_MEDIA_CODEC_THUMBNAIL_H
#define PREHEAT_MEDIA_CODEC_THUMBNAIL_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* thumbnail_write - rgb is [height, width, 3] u8 with 64 readable bytes behind it; fd is written
 * from its position on.
 *
 * Returns 0; -ENOTSUP when there is neither encoder; -ENOMEM; -EIO; the file's own errno. */
int thumbnail_write(int fd, const uint8_t *rgb, int64_t width, int64_t height, Err *err);

/* A thumbnail that is written by a thread of its own; all zeros: none. In the caller's memory,
 * which stays where it is until thumbnail_end(). */
typedef struct Thumbnail {
    bool running;
    pthread_t thread;
    int fd;
    uint8_t *rgb; /* a copy, with the bytes behind it */
    int64_t width, height;
    int result;
    Err err;
} Thumbnail;

/* thumbnail_begin - as thumbnail_write(), which takes as long as some frames of a video, beside
 * what the caller does next; rgb is free again on return. Frames above 4 million pixels are written
 * before it returns: their memory and the video encoder's at once would be more than is usual. */
int thumbnail_begin(
        Thumbnail *t, int fd, const uint8_t *rgb, int64_t width, int64_t height, Err *err);

/* thumbnail_end - waits for it; returns as thumbnail_write(), 0 where none was begun. Called in any
 * case, and may be called again. */
int thumbnail_end(Thumbnail *t, Err *err);

#endif
