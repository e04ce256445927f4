#include "warmup/source.h"

#include "base/macro.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

typedef struct SourceFile {
    int direct; /* -1: the file system has no O_DIRECT */
    int buffered;
} SourceFile;

/* Owner: the thread that fills. */
struct Source {
    const Manifest *m;
    bool remote;
    SourceFile file[];
};

static const SourceFile *file_of(const Source *s, size_t chunk) {
    return &s->file[manifest_chunk(s->m, chunk)->file];
}

/* Opening must not wait for a pipe's writer. Reading must wait: io_uring takes O_NONBLOCK at its
 * word where the disk cannot say in advance whether a read would, and answers EAGAIN for ever. */
static int open_to_read(int root, const char *path, int flags) {
    int fd = openat(root, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
    if (fd >= 0)
        (void)fcntl(fd, F_SETFL, flags); /* cannot fail on what was just opened with them */
    return fd;
}

static int open_file(const ManifestFile *f, int root, SourceFile *ret, Err *err) {
    ret->buffered = open_to_read(root, f->path, 0);
    struct stat st;
    if (ret->buffered < 0 || fstat(ret->buffered, &st) < 0)
        return err_set(err, -errno, "cannot open '%s': %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->bytes)
        return err_set(err, -ESTALE, "'%s' has %jd bytes, the manifest says %ju", f->path,
                (intmax_t)st.st_size, (uintmax_t)f->bytes);
    ret->direct = open_to_read(root, f->path, O_DIRECT);
    return 0;
}

static int new_source(const Manifest *m, bool remote, Source **ret, Err *err) {
    size_t n = manifest_n_files(m);
    Source *s = malloc(sizeof(*s) + n * sizeof(s->file[0]));
    if (!s)
        return err_set(err, -ENOMEM, "no memory to open %zu files", n);
    s->m = m;
    s->remote = remote;
    for (size_t i = 0; i < n; i++)
        s->file[i] = (SourceFile){-1, -1};
    *ret = s;
    return 0;
}

int source_open_remote(const Manifest *m, Source **ret, Err *err) {
    return new_source(m, true, ret, err);
}

int source_open(const Manifest *m, Source **ret, Err *err) {
    _cleanup_(source_freep) Source *s = NULL;
    int e = new_source(m, false, &s, err);
    if (e < 0)
        return e;
    _cleanup_close_ int root = open(manifest_root(m), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_set(
                err, -errno, "cannot open the model '%s': %s", manifest_root(m), strerror(errno));
    for (size_t i = 0; i < manifest_n_files(m); i++) {
        int r = open_file(manifest_file(m, i), root, &s->file[i], err);
        if (r < 0)
            return err_prefix(err, r, "model '%s'", manifest_root(m));
    }
    *ret = TAKE_PTR(s);
    return 0;
}

Source *source_free(Source *s) {
    if (!s)
        return NULL;
    for (size_t i = 0; i < manifest_n_files(s->m); i++) {
        fd_closep(&s->file[i].direct);
        fd_closep(&s->file[i].buffered);
    }
    free(s);
    return NULL;
}

bool source_is_cached(const Source *s, size_t chunk) {
    enum { PROBES = 8, PROBE_BYTES = 512 };
    const ManifestChunk *c = manifest_chunk(s->m, chunk);
    char bytes[PROBE_BYTES];
    if (s->remote)
        return false;
    struct iovec v = {.iov_base = bytes, .iov_len = MIN(c->bytes, (uint64_t)PROBE_BYTES)};
    for (uint64_t i = 0; i < PROBES; i++) {
        uint64_t at = c->offset + (c->bytes - v.iov_len) / (PROBES - 1) * i;
        if (preadv2(file_of(s, chunk)->buffered, &v, 1, (off_t)at, RWF_NOWAIT) !=
                (ssize_t)v.iov_len)
            return false;
    }
    return true;
}

void source_aim(const Source *s, size_t chunk, bool cached, ReadPiece *p) {
    const SourceFile *f = file_of(s, chunk);
    const ManifestFile *named = manifest_file(s->m, manifest_chunk(s->m, chunk)->file);
    p->fd = cached || f->direct < 0 ? f->buffered : f->direct;
    p->path = named->path;
    p->file_bytes = named->bytes;
    p->slow = cached;
}

bool source_without_direct(Source *s, size_t chunk) {
    SourceFile *f = &s->file[manifest_chunk(s->m, chunk)->file];
    bool had = f->direct >= 0;
    fd_closep(&f->direct);
    return had;
}

void source_release(const Source *s, size_t chunk, bool cached) {
    const ManifestChunk *c = manifest_chunk(s->m, chunk);
    const SourceFile *f = file_of(s, chunk);
    if (!s->remote && !cached && f->direct < 0) /* advice; a file system may not follow it */
        (void)posix_fadvise(f->buffered, (off_t)c->offset, (off_t)c->bytes, POSIX_FADV_DONTNEED);
}

int source_explain(const Source *s, size_t chunk, uint64_t offset, int error, Err *err) {
    const ManifestFile *f = manifest_file(s->m, manifest_chunk(s->m, chunk)->file);
    const char *root = manifest_root(s->m);
    if (error == -ENODATA)
        return err_set(err, error, "'%s/%s' ends at byte %ju, the manifest says %ju", root, f->path,
                (uintmax_t)offset, (uintmax_t)f->bytes);
    if (error == -EFAULT)
        return err_set(err, -ENOMEM,
                "no memory to read '%s/%s' into at byte %ju: huge pages that were promised are not "
                "to be had",
                root, f->path, (uintmax_t)offset);
    return err_set(err, error, "cannot read '%s/%s' at byte %ju: %s", root, f->path,
            (uintmax_t)offset, strerror(-error));
}
