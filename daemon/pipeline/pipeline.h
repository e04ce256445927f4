/* pipeline - one request through the model to frames, with progress and cancellation.
 *
 * Belongs to the worker thread, pipeline_load() excepted. Holds the model's weights on its backend;
 * the workspace is planned for each request before anything runs. Where only the decoder's would
 * not fit, frames are decoded in as few tiles as make it fit, which takes longer, and host memory
 * for the whole video. */
#ifndef PREHEAT_PIPELINE_PIPELINE_H
#define PREHEAT_PIPELINE_PIPELINE_H

#include "backend/backend.h"
#include "pipeline/residency.h"
#include "request/progress.h"
#include "request/request.h"
#include "store/checkpoint.h"

typedef struct Pipeline Pipeline;

/* Where finished frames go: n frames of [height, width, 3] u8, in order. Returns 0 or negative
 * errno, which ends the run. */
typedef int FrameSink(void *context, const uint8_t *rgb, int64_t n, Err *err);

/* pipeline_new - holds the checkpoint against the architecture that its configuration gives; needs
 * no device yet. The checkpoint must outlive the pipeline; pipeline_plan() must follow.
 *
 * Returns 0; what is wrong with the checkpoint. */
int pipeline_new(Checkpoint *c, Pipeline **ret, Err *err);
Pipeline *pipeline_free(Pipeline *p);

/* pipeline_plan - chooses which weights are to stay on the device (residency.h) so that `reserve`
 * fits the memory that is free now; loads no weight: pipeline_load() must follow. Called once; the
 * backend must outlive the pipeline.
 *
 *   reserve  the largest size that must fit, with any prompts, guidance, scheduler and first frame
 *            if it can, else as it is; NULL: that of the model's defaults
 *   held_bytes  device memory of parked weights, which will be adopted or given back
 *
 * Returns 0; -E2BIG with the numbers when it fits in no way. */
int pipeline_plan(Pipeline *p, Backend *b, const Request *reserve, uint64_t held_bytes, Err *err);

/* pipeline_load - brings in the weights, in order of first use. From any thread, one. Where
 * all of them stay, pipeline_run() may be running and waits for a layer's weights when it comes to
 * that layer; else it waits for the whole load.
 *
 * Returns 0, with a remark in err when pages could not be locked and the copies were slower for it;
 * -ENOMEM; -ETIMEDOUT when bytes did not arrive; what on_group said. After a failure a run fails
 * where weights are missing. With how->may_retry also -EAGAIN: device memory was short, nothing is
 * lost, runs wait, and the function must be called again. */
typedef ResidencyLoad PipelineLoad;
int pipeline_load(Pipeline *p, const PipelineLoad *how, Err *err);

/* pipeline_parkable - the sizes of the pieces of device memory that can outlive this process, in
 * the order in which how->parked of pipeline_load() wants them back; returns their number, 0 where
 * weights do not stay. Depends on checkpoint, residency and build. */
size_t pipeline_parkable(const Pipeline *p, uint64_t ret[static RESIDENCY_MAX_PARKABLE]);

/* pipeline_export - a descriptor of the i-th of these, as memory_export(); once pipeline_load() has
 * succeeded. Any thread. */
int pipeline_export(const Pipeline *p, size_t i, int *ret_fd, Err *err);

/* pipeline_defaults - what the model itself says of a request; pipeline_size_multiple - what width
 * and height must be multiples of. */
void pipeline_defaults(const Pipeline *p, RequestDefaults *ret);
int64_t pipeline_size_multiple(const Pipeline *p);

/* pipeline_admit - whether the request can be made here; any thread.
 *
 * Returns 0; -EINVAL for a prompt or shape that the model cannot take; -E2BIG with the device
 * memory that it needs and may have. */
int pipeline_admit(Pipeline *p, const Request *r, Err *err);

/* pipeline_reserve - takes the workspace of the largest request, with any prompts and settings
 * where that fits, so that no other program can keep it from a later one; the worker's, between
 * runs. Nothing where weights give way to workspaces, or memory is the host's.
 *
 * Returns 0; -E2BIG when the request would not be admitted; -ENOMEM; -EINVAL. */
int pipeline_reserve(Pipeline *p, const Request *largest, Err *err);

/* pipeline_residency - which weights stay, in words; static text. */
const char *pipeline_residency(const Pipeline *p);

/* pipeline_run - image is the decoded first frame, [height, width, 3] u8, or NULL.
 *
 * Returns 0; -ECANCELED once progress->cancelled is seen: before the next op is given to the device
 * or the next group of weights loaded; what the device was given, a step at most, is waited for.
 * -EINVAL for a prompt or shape that the model cannot take; -ENOMEM with the numbers; -EIO (the
 * backend is lost); -EDOM (the model's output is not finite); the sink's own error. */
int pipeline_run(Pipeline *p, const Request *r, const uint8_t *image, Progress *progress,
        FrameSink *sink, void *context, Err *err);

/* pipeline_is_lost - after a run that failed: whether the backend was lost, so that nothing but a
 * new process helps. The worker's. */
bool pipeline_is_lost(Pipeline *p);

/* pipeline_peak_bytes - device memory that weights and workspace of the runs so far took at most.
 */
uint64_t pipeline_peak_bytes(const Pipeline *p);

#endif
