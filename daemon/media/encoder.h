/* encoder - RGB frames in, a playable MP4 with a thumbnail out, by the child program preheat-media.
 *
 * The child has no network and no devices, and limits on memory and time; parsers and codecs run
 * only there. One owner, one encoder a video. A child that dies or hangs is an error here, never
 * the daemon's end. */
#ifndef PREHEAT_MEDIA_ENCODER_H
#define PREHEAT_MEDIA_ENCODER_H

#include "base/err.h"

#include <stdint.h>

typedef struct Encoder Encoder;

typedef struct EncoderOptions {
    const char *program;   /* path of preheat-media */
    int64_t width, height; /* even */
    int64_t num_frames;
    double fps;
    const char *comment;   /* settings and seed, kept in the file's metadata */
    uint64_t timeout_usec; /* for the child as a whole */
    int video_fd;     /* where the MP4 goes, open for reading and writing; stays the caller's */
    int thumbnail_fd; /* where the WebP of the first frame goes, or -1 */
} EncoderOptions;

int encoder_open(const EncoderOptions *options, Encoder **ret, Err *err);

/* encoder_frames - n frames of [height, width, 3] u8. Blocks while the child is behind.
 *
 * Returns 0; -EPIPE when the child is gone (its reason in the sentence); -ETIMEDOUT. */
int encoder_frames(Encoder *e, const uint8_t *rgb, int64_t n, Err *err);

/* encoder_finish - waits until the file is complete and synced. -ENOSPC when the disk is full. */
int encoder_finish(Encoder *e, Err *err);

/* encoder_close - kills the child if it still runs; returns NULL, takes NULL. */
Encoder *encoder_close(Encoder *e);

#endif
