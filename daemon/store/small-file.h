/* small-file - the files that a manifest keeps whole: configurations and the tokenizer. */
#ifndef PREHEAT_STORE_SMALL_FILE_H
#define PREHEAT_STORE_SMALL_FILE_H

#include "base/json.h"
#include "store/manifest-impl.h"

typedef enum SmallKind { SMALL_JSON, SMALL_BYTES } SmallKind;

enum { SMALL_MAX_JSON = 1024 * 1024, SMALL_MAX_TOKENIZER = 64 * 1024 * 1024 };

/* small_file_read - a file of the model's directory into the draft, under the name `as`, static
 * text. JSON must be an object.
 *
 * Returns 0, also where an optional file does not exist; negative errno naming the file. */
int small_file_read(const DraftSource *s, const char *path, const char *as, SmallKind kind,
        JsonNeed need, Err *err);

/* small_file_add - n bytes as such a file. */
int small_file_add(const DraftSource *s, const char *as, const void *data, size_t n, Err *err);

/* small_file_has - whether the draft has a file of this name. */
bool small_file_has(const DraftSource *s, const char *as);

#endif
