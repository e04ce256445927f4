#include "store/layout.h"

#include "base/str.h"
#include "store/diffusers.h"

#include <fcntl.h>
#include <limits.h>

int layout_read(const char *dir, ManifestDraft *d, Err *err) {
    char root[PATH_MAX];
    if (!realpath(dir, root))
        return err_set(err, -errno, "cannot find the model '%s': %s", dir, strerror(errno));
    if (!str_is_utf8(root, strlen(root)))
        return err_set(err, -EINVAL, "the path of the model '%s' is not UTF-8", dir);
    _cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, -errno, "cannot open the model '%s': %s", dir, strerror(errno));
    d->root = arena_strndup(&d->arena, root, strlen(root));
    if (!d->root)
        return err_set(err, -ENOMEM, "no memory for the path of the model");
    int r = diffusers_read(&(DraftSource){.fd = fd, .draft = d}, err);
    return r < 0 ? err_prefix(err, r, "model '%s'", dir) : 0;
}
