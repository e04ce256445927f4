/* render - one request to an MP4 and a thumbnail: picture in, pipeline, encoder out.
 *
 * Worker thread only. */
#ifndef PREHEAT_PIPELINE_RENDER_H
#define PREHEAT_PIPELINE_RENDER_H

#include "pipeline/pipeline.h"

typedef struct RenderOptions {
    const char *media_program;   /* path of preheat-media */
    uint64_t media_timeout_usec; /* of a child that makes no progress */
    uint64_t media_memory_bytes; /* the child's address space; 0: its default */
    int64_t max_picture_pixels;  /* of a client's first frame */
    int video_fd;                /* open for reading and writing, empty */
    int thumbnail_fd;            /* or -1 */
} RenderOptions;

/* render - returns 0 or what pipeline_run, picture_decode or the encoder returned; on failure the
 * files' contents are not to be used. */
int render(
        Pipeline *p, const Request *r, const RenderOptions *options, Progress *progress, Err *err);

#endif
