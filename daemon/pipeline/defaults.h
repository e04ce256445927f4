/* defaults - what a model itself says of a request that names less.
 *
 * Sizes, frames, steps and guidance are the official pipeline's, the scheduler and its shift the
 * checkpoint's, unless model_index.json knows better under "_preheat_defaults": width, height,
 * num_frames, num_inference_steps, fps, guidance_scale. Keys with an underscore are nobody else's
 * business there. */
#ifndef PREHEAT_PIPELINE_DEFAULTS_H
#define PREHEAT_PIPELINE_DEFAULTS_H

#include "model/dims.h"
#include "request/request.h"
#include "store/checkpoint.h"

/* defaults_read - the negative prompt is static text.
 *
 * Returns 0; -ENOENT without model_index.json; -EINVAL for a key that is none, or a value that no
 * configuration could allow, naming it and what is wanted. */
int defaults_read(
        const Checkpoint *c, const SchedulerConfig *scheduler, RequestDefaults *ret, Err *err);

#endif
