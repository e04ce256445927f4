#include "store/weights.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "store/segment.h"

#include <fcntl.h>
#include <libgen.h>

char *weights_place(const char *path, int place) {
    _cleanup_free_ char *a = strdup(path), *b = strdup(path);
    if (!a || !b)
        return NULL;
    const char *dir = dirname(a), *name = basename(b);
    switch (place) {
    case 0:
        return strdup(path);
    case 1:
        return str_format("%s/../shared/%s", dir, name);
    default:
        assert(place == 2);
        return str_format("/dev/shm/preheat-%s", name);
    }
}

int weights_open(int inherited_fd, const char *path, Err *err) {
    if (inherited_fd >= 0) {
        int r = segment_check(inherited_fd, err);
        return r < 0 ? err_prefix(err, r, "inherited segment") : inherited_fd;
    }
    for (int i = 0; i < N_WEIGHTS_PLACES; i++) {
        _cleanup_free_ char *place = weights_place(path, i);
        if (!place)
            return err_set(err, -ENOMEM, "no memory for a path");
        _cleanup_close_ int fd = open(place, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0)
            return err_set(err, -errno, "cannot open the segment '%s': %s", place, strerror(errno));
        int r = segment_check(fd, err);
        return r < 0 ? err_prefix(err, r, "segment '%s'", place) : TAKE_FD(fd);
    }
    return err_set(err, -ENOENT, "there is no segment '%s'", path);
}
