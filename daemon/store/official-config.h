/* official-config - the configurations that the official files lack, made from the tensors' shapes.
 *
 * The DiT's own config.json, where there is one, must say what the shapes say. What no shape tells
 * is the model's constant: heads of 128, eps 1e-6, the bias table's largest distance, the
 * statistics of 48 latent channels, the scheduler. A file in the Diffusers form beside the weights
 * (text_encoder/config.json, vae/config.json, scheduler/scheduler_config.json, model_index.json)
 * is taken instead of the one made here. */
#ifndef PREHEAT_STORE_OFFICIAL_CONFIG_H
#define PREHEAT_STORE_OFFICIAL_CONFIG_H

#include "store/manifest-impl.h"

/* official_config_make - adds those small files that the draft lacks.
 *
 *   s  its draft's tensors are ordered by part, then name, and have Diffusers names
 *
 * Returns 0; -ENOENT (a tensor is missing); -EBADMSG or -EINVAL naming file, tensor or key, what it
 * says and what the shapes say; -ENOMEM. */
int official_config_make(const DraftSource *s, Err *err);

#endif
