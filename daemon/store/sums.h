/* sums - checks a model's files against a list of SHA-256 sums, as model hubs publish them.
 *
 * The list has the lines of sha256sum(1), "HEX  PATH" or "HEX *PATH", paths relative to the model's
 * directory; empty lines and lines that begin with '#' are skipped. */
#ifndef PREHEAT_STORE_SUMS_H
#define PREHEAT_STORE_SUMS_H

#include "base/err.h"
#include "store/manifest.h"

typedef struct SumsReport {
    size_t n_checked;  /* files of the list, all of them right */
    size_t n_unlisted; /* weight files of the manifest that the list does not name */
} SumsReport;

/* sums_check - reads every listed file whole; several at a time.
 *
 *   m  whose directory it is; names the weight files that should be listed
 *   o  n_threads, progress and context are used; may be NULL
 *
 * Returns 0; -EBADMSG naming the first file whose sum differs, with both sums; -EINVAL for a line
 * that is none or a path that leaves the directory; negative errno of reading. */
int sums_check(const Manifest *m, const char *list_path, const ManifestOptions *o, SumsReport *ret,
        Err *err);

#endif
