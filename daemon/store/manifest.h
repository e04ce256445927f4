/* manifest - what a model consists of: files, tensors, and the chunks that are read and verified
 * whole.
 *
 * Immutable once made. Made from a Diffusers directory by manifest_build(), kept as one binary
 * file. */
#ifndef PREHEAT_STORE_MANIFEST_H
#define PREHEAT_STORE_MANIFEST_H

#include "base/err.h"

typedef struct Manifest Manifest;

Manifest *manifest_free(Manifest *m);

#endif
