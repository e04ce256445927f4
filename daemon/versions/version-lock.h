/* version-lock - what a preheatd was built and tried with, and how that differs from what is here.
 *
 * One line an item, three words: kind, name, value; '#' begins a comment.
 *
 *   program  preheatd            0.1.0      the same version
 *   format   manifest            1          the same number; so "segment"
 *   contract backend             1          between preheatd and its engine
 *   library  libsqlite3.so.0     8a3f...    the same build-id, "-": it has none
 *   module   preheat-backend-cuda.so 77ab.. the engine's build-id, where it is installed
 *   runtime  cuda                13.0       that the engine was built with
 *   driver   nvidia              580        at least, where one is loaded
 *   cublaslt libcublasLt.so      13         the major version that the engine loads
 *
 * Plain data, any thread. */
#ifndef PREHEAT_VERSIONS_VERSION_LOCK_H
#define PREHEAT_VERSIONS_VERSION_LOCK_H

#include "base/buf.h"
#include "base/err.h"
#include "versions/build-id.h"

enum { VERSION_LOCK_MAX = 96, VERSION_KIND_SIZE = 12 };

typedef struct Version {
    char kind[VERSION_KIND_SIZE];
    char name[SONAME_SIZE];
    char value[BUILD_ID_SIZE];
} Version;

typedef struct VersionLock {
    Version item[VERSION_LOCK_MAX];
    size_t n;
} VersionLock;

/* version_lock_add - one item. Returns 0; -ENOSPC; -EINVAL for an unknown kind, words with white
 * space and what is too long. */
int version_lock_add(
        VersionLock *l, const char *kind, const char *name, const char *value, Err *err);

/* version_lock_add_loaded - the libraries of this process. */
int version_lock_add_loaded(VersionLock *l, Err *err);

/* version_lock_parse - returns 0; -EINVAL with the line's number; -ENOSPC. */
int version_lock_parse(const char *text, VersionLock *ret, Err *err);

void version_lock_print(const VersionLock *l, Buf *out);

/* version_lock_find - NULL when there is none. */
const char *version_lock_find(const VersionLock *l, const char *kind, const char *name);

/* version_lock_compare - how many items of the lock are not as found; each is a clause of `out`
 * that names both sides, "; " between them. Engine, driver and CUDA are compared where they are
 * found; all else must be there. */
size_t version_lock_compare(const VersionLock *lock, const VersionLock *found, Buf *out);

#endif
