/* shards - the weights of one part that are cut into files, with the index that tells which tensor
 * is where. */
#ifndef PREHEAT_STORE_SHARDS_H
#define PREHEAT_STORE_SHARDS_H

#include "store/manifest-impl.h"

/* shards_read - all files that a .safetensors.index.json names; they stand beside it.
 *
 *   part        static text
 *   index_path  below the model's directory
 *
 * Index and files must agree on every tensor, and on the sum of their bytes if the index tells it.
 * Returns 0; negative errno naming the file. */
int shards_read(const DraftSource *s, const char *part, const char *index_path, Err *err);

#endif
