/* origin - what this machine keeps of a model that comes from a source elsewhere.
 *
 *   DIR/source    the source as configured, one line
 *   DIR/manifest  its manifest, byte by byte as it came
 *   DIR/files/    its files, where they are kept at all; see warmup/download.h
 *
 * The source's line is written last and removed first: a manifest beside it came from there. */
#ifndef PREHEAT_STORE_ORIGIN_H
#define PREHEAT_STORE_ORIGIN_H

#include "base/err.h"
#include "store/manifest.h"

/* All borrowed. */
typedef struct Origin {
    const char *dir;
    const char *source;
    const char *pin; /* the digest that the manifest must have, 32 hexadecimal digits; "": any */
} Origin;

/* origin_load - the kept manifest, its root set to DIR/files.
 *
 * Returns 0; -ENOENT when there is none; -ESTALE when it came from another source or is another
 * than the pinned one; else as manifest_load(). */
int origin_load(const Origin *o, Manifest **ret, Err *err);

/* origin_load_last - as origin_load(), but of whatever source and digest it is. */
int origin_load_last(const Origin *o, Manifest **ret, Err *err);

/* origin_check - the manifest can be used: it has digests, and the pinned one where one is pinned.
 *
 * Returns 0; -EINVAL; -ESTALE with both digests. */
int origin_check(const Origin *o, const Manifest *m, Err *err);

/* origin_save - keeps it; the directory is made. m's root is set as by origin_load(). */
int origin_save(const Origin *o, Manifest *m, Err *err);

/* origin_files - DIR/files on the heap; NULL when out of memory. */
char *origin_files(const Origin *o);

#endif
