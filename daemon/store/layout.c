#include "store/layout.h"

#include "base/str.h"
#include "store/diffusers.h"
#include "store/official.h"

#include <fcntl.h>
#include <limits.h>

static int read_either(const DraftSource *s, Err *err) {
    if (official_is(s->fd))
        return official_read(s, err);
    if (faccessat(s->fd, "model_index.json", F_OK, 0) < 0 &&
            faccessat(s->fd, "transformer", F_OK, 0) < 0)
        return err_set(err, -ENOENT,
                "it has neither 'model_index.json', as the Diffusers layout, nor a .safetensors or "
                ".pth file, as the official one");
    return diffusers_read(s, err);
}

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
    int r = read_either(&(DraftSource){.fd = fd, .draft = d}, err);
    return r < 0 ? err_prefix(err, r, "model '%s'", dir) : 0;
}
