#include "store/small-file.h"

#include "base/io.h"
#include "base/str.h"

#include <fcntl.h>

int small_file_add(const DraftSource *s, const char *as, const void *data, size_t n, Err *err) {
    ManifestDraft *d = s->draft;
    ManifestSmall small = {.path = as, .bytes = n};
    small.data = arena_strndup(&d->arena, data, n);
    buf_append(&d->smalls, &small, sizeof(small));
    if (!small.data || buf_failed(&d->smalls))
        return err_set(err, -ENOMEM, "no memory for '%s'", as);
    return 0;
}

int small_file_read(const DraftSource *s, const char *path, const char *as, SmallKind kind,
        JsonNeed need, Err *err) {
    _cleanup_free_ char *data = NULL;
    size_t n, limit = kind == SMALL_JSON ? SMALL_MAX_JSON : SMALL_MAX_TOKENIZER;
    if (need == JSON_OPTIONAL && faccessat(s->fd, path, F_OK, 0) < 0)
        return 0;
    int r = io_read_file(s->fd, path, limit, &data, &n, err);
    if (r < 0)
        return r;
    if (kind == SMALL_JSON) {
        _cleanup_json_ json_t *top = NULL;
        r = json_parse(data, n, &top, err);
        if (r < 0)
            return err_prefix(err, r, "'%s'", path);
        if (!json_is_object(top))
            return err_set(err, -EINVAL, "'%s' is not a JSON object", path);
    }
    return small_file_add(s, as, data, n, err);
}

bool small_file_has(const DraftSource *s, const char *as) {
    const ManifestSmall *small = (const ManifestSmall *)s->draft->smalls.data;
    for (size_t i = 0; i < s->draft->smalls.size / sizeof(*small); i++)
        if (str_eq(small[i].path, as))
            return true;
    return false;
}
