/* wire - what the daemon writes to preheat-media before the data, and how it is started.
 *
 * preheat-media encode|picture MEMORY_BYTES CPU_SECONDS FILE_BYTES
 *   0  input: WireJob, then comment and frames, or the picture's bytes
 *   1  encode: the MP4, read and written by position; picture: a stream for the RGB bytes
 *   2  report: on failure one line, "!ERRNO sentence"
 *   3  encode: the thumbnail, where one is wanted
 * Exit status 0 only when everything was written. Both programs come from one build; the magic
 * changes with the layout, so that an upgrade in between is noticed. */
#ifndef PREHEAT_MEDIA_WIRE_H
#define PREHEAT_MEDIA_WIRE_H

#include <assert.h>
#include <stdint.h>

enum { WIRE_INPUT_FD = 0, WIRE_OUTPUT_FD = 1, WIRE_REPORT_FD = 2, WIRE_THUMBNAIL_FD = 3 };

#define WIRE_MAGIC UINT64_C(0x3061696465484850) /* "PHHedia0" */
#define WIRE_MAX_SIDE 16384
#define WIRE_MAX_COMMENT_BYTES 65536
#define WIRE_MAX_PICTURE_BYTES ((uint64_t)1 << 30)

typedef struct WireJob {
    uint64_t magic;
    int64_t width, height;
    int64_t num_frames; /* encode */
    int64_t max_pixels; /* picture */
    uint64_t n_bytes;   /* encode: of the comment, no NUL; picture: of the picture */
    double fps;         /* encode */
    uint64_t thumbnail; /* encode: 1 when descriptor 3 is one */
} WireJob;
static_assert(sizeof(WireJob) == 64, "no padding on the wire");

#endif
