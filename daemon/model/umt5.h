/* umt5 - the text encoder: token ids to one row of features each.
 *
 * Runs on the prompt's real tokens only: the reference pads to 512 and masks, which gives the same
 * rows. Activations stay in f32 between the layers, whatever the backend's dtype. Belongs to the
 * worker thread.
 *
 * Source: transformers modeling_umt5.py, UMT5Stack and what it calls. */
#ifndef PREHEAT_MODEL_UMT5_H
#define PREHEAT_MODEL_UMT5_H

#include "model/dims.h"
#include "model/observer.h"
#include "model/weights.h"

typedef struct Umt5 Umt5;

/* umt5_new - checks and binds the tensors of "text_encoder"; loads nothing. */
int umt5_new(Checkpoint *c, const T5Dims *dims, Umt5 **ret, Err *err);
Umt5 *umt5_free(Umt5 *m);
Weights *umt5_weights(const Umt5 *m);

/* umt5_encode - y = the encoder's output.
 *
 *   ids  [n] in host memory, the end id included; may be reused on return. An id that the embedding
 *        does not have fails the stream with -EINVAL
 *   y    [n, dim]  F32 or act; 1 <= n <= TEXT_ROWS, asserted
 *
 * The observer sees "t5.hidden" i, the input of layer i, and as the last one y. */
void umt5_encode(Stream *s, Umt5 *m, View y, const int32_t *ids, const Observer *observer);

/* umt5_bucket - which row of the bias table serves a key that far from its query. */
int32_t umt5_bucket(const T5Dims *dims, int64_t key_minus_query);

#endif
