/* layout - finds out how a model's directory is laid out, reads it into a manifest's draft. */
#ifndef PREHEAT_STORE_LAYOUT_H
#define PREHEAT_STORE_LAYOUT_H

#include "store/manifest-impl.h"

/* layout_read - headers and small files; no weights are read.
 *
 * Returns 0; negative errno naming the directory and the file. d is the caller's in either case. */
int layout_read(const char *dir, ManifestDraft *d, Err *err);

#endif
