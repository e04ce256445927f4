#include "store/weights.h"

#include "base/cleanup.h"
#include "store/places.h"
#include "store/segment.h"

#include <fcntl.h>
#include <string.h>

int weights_open(int inherited_fd, const char *path, Err *err) {
    if (inherited_fd >= 0) {
        int r = segment_check(inherited_fd, path, err);
        if (r == SEGMENT_FURTHER)
            r = err_set(err, -EBADMSG, "it is not the first of its segment's files");
        return r < 0 ? err_prefix(err, r, "inherited segment") : inherited_fd;
    }
    for (int i = 0; i < N_PLACES; i++) {
        _cleanup_free_ char *place = places_path(path, i);
        if (!place)
            return err_set(err, -ENOMEM, "no memory for a path");
        _cleanup_close_ int fd = open(place, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0)
            return err_set(err, -errno, "cannot open the segment '%s': %s", place, strerror(errno));
        int r = segment_check(fd, path, err);
        if (r == SEGMENT_FURTHER)
            continue;
        return r < 0 ? err_prefix(err, r, "segment '%s'", place) : TAKE_FD(fd);
    }
    return err_set(err, -ENOENT, "there is no segment '%s'", path);
}
