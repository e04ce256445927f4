/* diffusers - reads a model directory in the Diffusers layout into a manifest's draft.
 *
 *   model_index.json
 *   text_encoder/config.json, model.safetensors or model.safetensors.index.json and its shards
 *   transformer/ and vae/ likewise, their files called diffusion_pytorch_model
 *   scheduler/scheduler_config.json, tokenizer/spiece.model
 *
 * Files may be symbolic links, as the hubs' caches have them; names inside an index may not leave
 * their directory. */
#ifndef PREHEAT_STORE_DIFFUSERS_H
#define PREHEAT_STORE_DIFFUSERS_H

#include "base/err.h"
#include "store/manifest-impl.h"

/* diffusers_read - headers and small files; no weights are read.
 *
 * Returns 0; negative errno naming the file. */
int diffusers_read(const DraftSource *s, Err *err);

#endif
