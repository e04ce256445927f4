/* video - frames to an H.264 MP4 on a descriptor.
 *
 * yuv420p with BT.709 tags, the index in front (faststart). The same frames and options give the
 * same bytes with the same libraries, whatever the processor: the number of encoding threads, one
 * to eight, follows from the frame's size alone. One owner. */
#ifndef PREHEAT_MEDIA_CODEC_VIDEO_H
#define PREHEAT_MEDIA_CODEC_VIDEO_H

#include "base/err.h"

#include <stdint.h>

typedef struct Video Video;

typedef struct VideoOptions {
    int64_t width, height; /* even, at most 16384 */
    double fps;
    const char *comment; /* NUL-terminated, or NULL */
    int fd;              /* empty file, read and written by position; stays the caller's */
} VideoOptions;

/* video_prepare - opens an encoder once, so that libraries which libavcodec itself loads late
 * (OpenH264 on Fedora) are there before files can no longer be opened. Kept until exit. */
void video_prepare(void);

/* video_open - Returns 0; -ENOTSUP when libavcodec has no software H.264 encoder; -ENOMEM;
 * -EINVAL when the encoder refuses the options; the file's own errno. */
int video_open(const VideoOptions *options, Video **ret, Err *err);

/* video_frame - one frame [height, width, 3] u8, with 64 readable bytes behind it. */
int video_frame(Video *v, const uint8_t *rgb, Err *err);

/* video_finish - encodes what is buffered and writes the index. */
int video_finish(Video *v, Err *err);

Video *video_free(Video *v);

#endif
