/* model - the networks of one checkpoint, held against its configuration and ready to load.
 *
 * Belongs to the worker thread. The checkpoint must outlive it. */
#ifndef PREHEAT_MODEL_MODEL_H
#define PREHEAT_MODEL_MODEL_H

#include "base/buf.h"
#include "model/dims.h"
#include "model/dit.h"
#include "model/umt5.h"
#include "model/vae.h"

typedef struct Model {
    ModelDims dims;
    Umt5 *umt5;
    Dit *dit;
    Vae *vae;
} Model;

/* model_new - reads the configurations and checks every tensor's name, dtype and shape; needs no
 * backend and reads no weights.
 *
 * Errors: those of dims_read() and weights_bind(). */
int model_new(Checkpoint *c, Model **ret, Err *err);
Model *model_free(Model *m);

/* model_bytes - device memory that the weights take. */
uint64_t model_bytes(const Model *m, Backend *b);

/* model_load - weights_load() of all parts in order of use: text encoder, transformer, VAE. */
int model_load(Model *m, Stream *s, uint64_t timeout_usec, Err *err);

/* model_find_nonfinite - reads all weights; -EDOM names the first tensor with a NaN or infinity. */
int model_find_nonfinite(const Model *m, Err *err);

/* model_check - whether a checkpoint is one of this architecture, without keeping anything.
 *
 *   unexpected  gets "part: tensor", a line for each that the architecture does not have; may be
 *               NULL. They are not an error.
 *
 * Returns 0; errors of model_new(); -EDOM when the manifest counted a NaN or infinity in a tensor
 * that is used. */
int model_check(const Manifest *manifest, Checkpoint *c, Buf *unexpected, Err *err);

#endif
