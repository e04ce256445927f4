/* weight-file - the head of one file of weights, and its tensors, into a manifest's draft. */
#ifndef PREHEAT_STORE_WEIGHT_FILE_H
#define PREHEAT_STORE_WEIGHT_FILE_H

#include "store/manifest-impl.h"

/* weight_file_read - a .safetensors or a .pth file below the model's directory; tensors get the
 * part and the names that they have in the file. Reads no weights.
 *
 *   part  static text
 *
 * Returns 0; negative errno naming the file. */
int weight_file_read(const DraftSource *s, const char *part, const char *path, Err *err);

/* weight_file_is - whether a name is that of such a file. */
bool weight_file_is(const char *path);

#endif
