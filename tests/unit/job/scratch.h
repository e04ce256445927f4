/* scratch - a state directory for one test, removed afterwards. */
#ifndef PREHEAT_UNIT_JOB_SCRATCH_H
#define PREHEAT_UNIT_JOB_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline int scratch_remove_one(
        const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

/* cmocka setup and teardown; *state is the path. */
static inline int scratch_make(void **state) {
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/preheat-test-XXXXXX", base ? base : "/tmp") < 0)
        return -1;
    *state = mkdtemp(path);
    return *state ? 0 : -1;
}

static inline int scratch_remove(void **state) {
    int r = nftw(*state, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return r;
}

#endif
