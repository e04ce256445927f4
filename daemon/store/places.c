#include "store/places.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <assert.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory beside dir; by name where that can be told, which reads better than "..". */
static char *beside(char *dir, const char *sibling, const char *name) {
    const char *above = dir[0] == '/' && dir[1] ? dirname(dir) : NULL;
    if (!above)
        return str_format("%s/../%s/%s", dir, sibling, name);
    return str_format("%s/%s/%s", str_eq(above, "/") ? "" : above, sibling, name);
}

char *places_path(const char *path, int place) {
    _cleanup_free_ char *a = strdup(path), *b = strdup(path);
    assert(place >= 0 && place < N_PLACES);
    if (!a || !b)
        return NULL;
    char *dir = dirname(a);
    const char *name = basename(b);
    switch (place) {
    case PLACE_CONFIGURED:
        return strdup(path);
    case PLACE_PUBLIC:
        return str_format("/dev/shm/preheat-%s", name);
    default:
        return beside(dir, place == PLACE_GIGANTIC ? "gigantic" : "shared", name);
    }
}

int places_owner(const char *path, uid_t *ret) {
    _cleanup_free_ char *copy = strdup(path ? path : "");
    struct stat st;
    if (!copy)
        return -ENOMEM;
    bool looks_on = geteuid() == 0 && *copy;
    *ret = looks_on && stat(dirname(copy), &st) == 0 && !(st.st_mode & S_IWOTH) ? st.st_uid
                                                                                : geteuid();
    return 0;
}
