/* pipeline - one request through the model to frames, with progress and cancellation.
 *
 * Belongs to the worker thread, pipeline_load() excepted. Holds the model's weights on its backend;
 * the workspace is planned for each request before anything runs. */
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

/* pipeline_new - holds the checkpoint against the architecture that its configuration gives; loads
 * no weight: pipeline_load() must follow. Backend and checkpoint must outlive the pipeline. */
int pipeline_new(Backend *b, Checkpoint *c, Pipeline **ret, Err *err);
Pipeline *pipeline_free(Pipeline *p);

typedef struct PipelineLoad {
    uint64_t
            timeout_usec; /* for the bytes of one group; they may still be on their way to memory */
    int (*on_group)(void *context, size_t n_loaded, size_t n_groups); /* after each group, on the
                            loading thread; negative stops the load; may be NULL */
    void *context;
} PipelineLoad;

/* pipeline_load - brings all weights to the backend, in order of first use. Called once, from any
 * thread: pipeline_run() may be running and waits for a layer's weights when it comes to that
 * layer.
 *
 * Returns 0; -ENOMEM; -ETIMEDOUT when bytes did not arrive; what on_group said. After a failure a
 * run fails where weights are missing. */
int pipeline_load(Pipeline *p, const PipelineLoad *how, Err *err);

/* pipeline_defaults - what the model itself says of a request; pipeline_size_multiple - what width
 * and height must be multiples of. */
void pipeline_defaults(const Pipeline *p, RequestDefaults *ret);
int64_t pipeline_size_multiple(const Pipeline *p);

/* pipeline_workspace_bytes - device memory that the request needs besides the weights.
 *
 * Returns 0; -EINVAL where the model cannot make that shape; -ENOMEM. */
int pipeline_workspace_bytes(Pipeline *p, const Request *r, size_t *ret, Err *err);

/* pipeline_run - image is the decoded first frame, [height, width, 3] u8, or NULL.
 *
 * Returns 0; -ECANCELED once progress->cancelled is seen, within a step; -EINVAL for a prompt or
 * shape that the model cannot take; -ENOMEM with the numbers; -EIO (the backend is lost); -EDOM
 * (the model's output is not finite); the sink's own error. */
int pipeline_run(Pipeline *p, const Request *r, const uint8_t *image, Progress *progress,
        FrameSink *sink, void *context, Err *err);

/* pipeline_peak_bytes - device memory held at most: weights and workspace. */
uint64_t pipeline_peak_bytes(const Pipeline *p);

#endif
