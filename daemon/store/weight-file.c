#include "store/weight-file.h"

#include "base/io.h"
#include "base/str.h"
#include "store/pth.h"
#include "store/safetensors.h"

#include <sys/stat.h>

static const char pth_suffix[] = ".pth";

static int open_weights(const DraftSource *s, const char *path, ManifestFile *f, Err *err) {
    struct stat st;
    _cleanup_close_ int fd = io_open_regular(s->fd, path, FORMAT_MAX_FILE_BYTES, &st, err);
    if (fd < 0)
        return fd;
    f->bytes = (uint64_t)st.st_size;
    f->mtime_nsec = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return TAKE_FD(fd);
}

/* f->head_bytes from the beginning; the digest is noted. */
static int read_head(int fd, const char *path, ManifestFile *f, char **ret, Err *err) {
    _cleanup_free_ char *head = malloc(f->head_bytes);
    if (!head)
        return err_set(err, -ENOMEM, "no memory for the header of '%s'", path);
    ssize_t n = io_pread_all(fd, head, f->head_bytes, 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    if ((uint64_t)n < f->head_bytes)
        return err_set(err, -EBADMSG, "'%s' became shorter while it was read", path);
    f->head_digest = digest_of(head, f->head_bytes);
    *ret = TAKE_PTR(head);
    return 0;
}

/* *ret is the whole head, length prefix included. */
static int read_safetensors_head(int fd, const char *path, ManifestFile *f, char **ret, Err *err) {
    uint8_t prefix[SAFETENSORS_PREFIX];
    ssize_t n = io_pread_all(fd, prefix, sizeof(prefix), 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    if (n < (ssize_t)sizeof(prefix))
        return err_set(err, -EBADMSG, "'%s' has %zd bytes, too few for a header", path, n);
    int r = safetensors_head_bytes(prefix, f->bytes, &f->head_bytes, err);
    return r < 0 ? err_prefix(err, r, "'%s'", path) : read_head(fd, path, f, ret, err);
}

/* t's name is copied. */
static int add_tensor(const DraftSource *s, ManifestTensor t, const char *path, Err *err) {
    ManifestDraft *d = s->draft;
    if (t.offset % dtype_bytes(t.dtype))
        return err_set(err, -EBADMSG, "'%s': tensor '%s' of %s begins at the odd file byte %ju",
                path, t.name, dtype_name(t.dtype), (uintmax_t)t.offset);
    t.name = arena_strndup(&d->arena, t.name, strlen(t.name));
    buf_append(&d->tensors, &t, sizeof(t));
    if (!t.name || buf_failed(&d->tensors))
        return err_set(err, -ENOMEM, "no memory for the tensors of '%s'", path);
    return 0;
}

/* Of the file that will be the next in the draft. */
static int add_entries(const DraftSource *s, const char *part, const char *path,
        const WeightEntry *entry, size_t n, Err *err) {
    uint32_t file = (uint32_t)(s->draft->files.size / sizeof(ManifestFile));
    int r = 0;
    for (const WeightEntry *e = entry; r == 0 && e < entry + n; e++) {
        if (e->dtype == N_DTYPES)
            return err_set(err, -EBADMSG,
                    "'%s': tensor '%s' is %s, preheat reads F32, F16, BF16, F64, U8, I32 and I64",
                    path, e->name, e->dtype_name);
        ManifestTensor t = {.part = part,
                .name = e->name,
                .file = file,
                .dtype = e->dtype,
                .rank = e->rank,
                .offset = e->offset,
                .bytes = e->bytes};
        memcpy(t.dim, e->dim, sizeof(t.dim));
        r = add_tensor(s, t, path, err);
    }
    return r;
}

static int read_safetensors(const DraftSource *s, const char *part, int fd, const char *path,
        ManifestFile *f, Err *err) {
    _cleanup_free_ char *head = NULL;
    Safetensors st;
    int r = read_safetensors_head(fd, path, f, &head, err);
    if (r < 0)
        return r;
    r = safetensors_parse(head, f->head_bytes, f->bytes, &st, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", path);
    r = add_entries(s, part, path, st.entry, st.n_entries, err);
    safetensors_done(&st);
    return r;
}

static int read_pth(const DraftSource *s, const char *part, int fd, const char *path,
        ManifestFile *f, Err *err) {
    _cleanup_free_ char *head = NULL;
    Pth p;
    int r = pth_read(fd, f->bytes, &p, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", path);
    f->head_bytes = p.head_bytes;
    r = read_head(fd, path, f, &head, err);
    if (r == 0)
        r = add_entries(s, part, path, p.entry, p.n_entries, err);
    pth_done(&p);
    return r;
}

bool weight_file_is(const char *path) {
    return str_ends(path, ".safetensors") || str_ends(path, pth_suffix);
}

int weight_file_read(const DraftSource *s, const char *part, const char *path, Err *err) {
    ManifestDraft *d = s->draft;
    ManifestFile f = {.path = arena_strndup(&d->arena, path, strlen(path))};
    if (!f.path)
        return err_set(err, -ENOMEM, "no memory for a file's name");
    _cleanup_close_ int fd = open_weights(s, path, &f, err);
    if (fd < 0)
        return fd;
    int r = str_ends(path, pth_suffix) ? read_pth(s, part, fd, path, &f, err)
                                       : read_safetensors(s, part, fd, path, &f, err);
    if (r < 0)
        return r;
    if (d->files.size / sizeof(f) >= FORMAT_MAX_FILES)
        return err_set(err, -EFBIG, "the model has more than %d files", FORMAT_MAX_FILES);
    buf_append(&d->files, &f, sizeof(f));
    return buf_failed(&d->files) ? err_set(err, -ENOMEM, "no memory for '%s'", path) : 0;
}
