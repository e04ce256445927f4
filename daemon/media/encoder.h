/* encoder - RGB frames in, a playable MP4 with a thumbnail out, by the child program preheat-media.
 *
 * The child has no network and no devices, and limits on memory and time; parsers and codecs run
 * only there. One owner, one encoder a video. A child that dies or hangs is an error here, never
 * the daemon's end. The same frames and options give the same file, byte for byte, with the same
 * codec libraries. */
#ifndef PREHEAT_MEDIA_ENCODER_H
#define PREHEAT_MEDIA_ENCODER_H

#include "base/err.h"

#include <stdint.h>

typedef struct Encoder Encoder;

#define ENCODER_MAX_COMMENT_BYTES 65536

typedef struct EncoderOptions {
    const char *program;   /* path of preheat-media */
    int64_t width, height; /* even, at most 16384 */
    int64_t num_frames;    /* at least 1 */
    double fps;            /* 0.1 to 1000; 29.97 and its like become n * 1000 / 1001 */
    const char *comment;   /* UTF-8: settings and seed, kept in the file's metadata; or NULL */
    uint64_t timeout_usec; /* the longest wait for a child that makes no progress */
    uint64_t memory_limit_bytes; /* of the child's address space; 0 for 1 GiB */
    int video_fd;     /* where the MP4 goes: an empty file open for reading and writing, not for
                       * appending; stays the caller's */
    int thumbnail_fd; /* where the WebP of the first frame goes (PNG where libavcodec was built
                       * without libwebp), or -1; stays the caller's */
} EncoderOptions;

/* encoder_open - starts the child, which has dropped its rights before it reads the first frame.
 *
 * Returns 0; -EINVAL naming the option; negative errno of starting a process. */
int encoder_open(const EncoderOptions *options, Encoder **ret, Err *err);

/* encoder_frames - n frames of [height, width, 3] u8. Blocks while the child is behind; never more
 * frames than announced, asserted.
 *
 * Returns 0; -ENOSPC when the disk is full; -EPIPE when the child is gone (its reason in the
 * sentence); -ETIMEDOUT. After a failure only encoder_close() is allowed. */
int encoder_frames(Encoder *e, const uint8_t *rgb, int64_t n, Err *err);

/* encoder_finish - waits until the file is complete and synced.
 *
 * Returns as encoder_frames(); -EINVAL when frames are missing. */
int encoder_finish(Encoder *e, Err *err);

/* encoder_close - kills the child if it still runs; returns NULL, takes NULL. */
Encoder *encoder_close(Encoder *e);

#endif
