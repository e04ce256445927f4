/* pipeline - one request through the model to a file, with progress and cancellation.
 *
 * Belongs to the worker thread. Holds the model's weights on its backend; the workspace is planned
 * for each request before anything runs. */
#ifndef PREHEAT_PIPELINE_PIPELINE_H
#define PREHEAT_PIPELINE_PIPELINE_H

#include "backend/backend.h"
#include "request/progress.h"
#include "request/request.h"
#include "store/checkpoint.h"

typedef struct Pipeline Pipeline;

/* Where finished frames go: n frames of [height, width, 3] u8, in order. Returns 0 or negative
 * errno, which ends the run. */
typedef int FrameSink(void *context, const uint8_t *rgb, int64_t n, Err *err);

/* pipeline_new - binds the model's weights to the backend; the checkpoint must outlive it. */
int pipeline_new(Backend *b, Checkpoint *c, Pipeline **ret, Err *err);
Pipeline *pipeline_free(Pipeline *p);

/* pipeline_defaults, pipeline_limit_sizes - what the model itself says: shift, sizes, multiples. */
void pipeline_defaults(const Pipeline *p, RequestDefaults *ret);

/* pipeline_run - image is the decoded first frame, [height, width, 3] u8, or NULL.
 *
 * Returns 0; -ECANCELED; -ENOMEM (the request does not fit the device, numbers in the sentence);
 * -EIO (the backend is lost); -EDOM (the model's output is not finite); the sink's own error. */
int pipeline_run(Pipeline *p, const Request *r, const uint8_t *image, Progress *progress,
        FrameSink *sink, void *context, Err *err);

#endif
