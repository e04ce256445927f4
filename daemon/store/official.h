/* official - reads a model directory with official names into a manifest's draft.
 *
 *   *.safetensors, *.pth   in any number and cut; what a tensor belongs to is told by its name. As
 *                          published: diffusion_pytorch_model*.safetensors with their index,
 *                          models_t5_umt5-xxl-enc-bf16.pth, Wan2.2_VAE.pth
 *   config.json            of the DiT, where there is one
 *   google/umt5-xxl/       with spiece.model; or tokenizer/, or the directory itself, or a tensor
 *                          'spiece_model' of a text encoder
 *
 * and files of the Diffusers form in place of what official-config.h makes. The draft's tensors get
 * the names of the Diffusers layout. */
#ifndef PREHEAT_STORE_OFFICIAL_H
#define PREHEAT_STORE_OFFICIAL_H

#include "base/err.h"
#include "store/manifest-impl.h"

/* official_is - whether the directory has weight files itself, and not the Diffusers layout's. */
bool official_is(int dir_fd);

/* official_read - headers and small files; no weights are read.
 *
 * Returns 0; negative errno naming the file. */
int official_read(const DraftSource *s, Err *err);

#endif
