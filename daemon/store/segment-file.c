#include "base/io.h"
#include "base/size.h"
#include "store/segment-impl.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static struct flock lock_of(short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
}

int segment_file_lock(int fd, Err *err) {
    struct flock lock = lock_of(F_WRLCK);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES
                   ? err_set(err, -EBUSY, "another process is filling it")
                   : err_set(err, -errno, "cannot lock it: %s", strerror(errno));
}

bool segment_file_is_locked(int fd) {
    struct flock lock = lock_of(F_WRLCK);
    return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

int segment_file_examine(SegmentFile *f, Err *err) {
    struct statfs fs;
    if (fstatfs(f->fd, &fs) < 0)
        return err_set(err, -errno, "cannot tell its file system: %s", strerror(errno));
    if (fs.f_type != HUGETLBFS_MAGIC && fs.f_type != TMPFS_MAGIC)
        return err_set(err, -ENOTSUP,
                "it is on a file system of type 0x%jx, it must be on hugetlbfs or tmpfs",
                (uintmax_t)fs.f_type);
    f->backing = fs.f_type == HUGETLBFS_MAGIC ? SEGMENT_HUGETLB : SEGMENT_TMPFS;
    f->page_bytes = MAX((uint64_t)fs.f_bsize, (uint64_t)4096);
    return 0;
}

int segment_file_header(int fd, SegmentHeader *ret, Err *err) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot stat it: %s", strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < SEGMENT_PAGE)
        return err_set(err, -EBADMSG, "it is no regular file of at least 2 MiB");
    ssize_t n = io_pread_all(fd, ret, sizeof(*ret), 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read its header: %s", strerror((int)-n));
    Digest check = digest_of(ret, offsetof(SegmentHeader, check));
    if (n < (ssize_t)sizeof(*ret) || memcmp(ret->magic, SEGMENT_MAGIC, sizeof(ret->magic)) != 0 ||
            !digest_eq(&check, &ret->check))
        return err_set(err, -EBADMSG, "it has no segment's header");
    if (ret->version != SEGMENT_VERSION)
        return err_set(err, -EBADMSG, "it has format version %u, this program knows %d",
                ret->version, SEGMENT_VERSION);
    if ((uint64_t)st.st_size < ret->segment_bytes)
        return err_set(err, -EBADMSG, "it has %jd bytes, its header says %ju", (intmax_t)st.st_size,
                (uintmax_t)ret->segment_bytes);
    if (ret->n_chunks > SEGMENT_MAX_CHUNKS || ret->n_extents > SEGMENT_MAX_EXTENTS ||
            ret->place >= N_PLACES || ret->first > ret->place)
        return err_set(err, -EBADMSG,
                "it has %u chunks, %u extents, place %u, first file in place %u; at most %zu, %zu, "
                "%d and that place are possible",
                ret->n_chunks, ret->n_extents, ret->place, ret->first, (size_t)SEGMENT_MAX_CHUNKS,
                (size_t)SEGMENT_MAX_EXTENTS, N_PLACES - 1);
    return 0;
}

void segment_seal(SegmentHeader *h, const SegmentExtent *extent) {
    h->extents = digest_of(extent, h->n_extents * sizeof(*extent));
    h->check = digest_of(h, offsetof(SegmentHeader, check));
}

/* From byte 0 on, each where the one before ends, the last one not a page too far. */
static int check_extents(const SegmentHeader *h, const SegmentExtent *e, Err *err) {
    uint64_t at = 0;
    for (size_t i = 0; i < h->n_extents; i++) {
        if (e[i].begin != at || e[i].bytes == 0 || e[i].bytes % SEGMENT_PAGE ||
                e[i].bytes > (UINT64_MAX >> 1) - at || e[i].place < h->first ||
                e[i].place >= N_PLACES || at >= h->segment_bytes)
            return err_set(err, -EBADMSG,
                    "its extent %zu is of %ju bytes from %ju on in place %u, behind %ju of %ju", i,
                    (uintmax_t)e[i].bytes, (uintmax_t)e[i].begin, e[i].place, (uintmax_t)at,
                    (uintmax_t)h->segment_bytes);
        at += e[i].bytes;
    }
    if (at < h->segment_bytes || at - h->segment_bytes >= CHUNK_SIZE_MAX || e[0].place != h->first)
        return err_set(err, -EBADMSG, "its extents hold %ju of %ju bytes", (uintmax_t)at,
                (uintmax_t)h->segment_bytes);
    return 0;
}

int segment_read_extents(int fd, const SegmentHeader *h, SegmentExtent **ret, Err *err) {
    size_t bytes = h->n_extents * sizeof(SegmentExtent);
    _cleanup_free_ SegmentExtent *e = malloc(MAX(bytes, sizeof(*e)));
    if (!e)
        return err_set(err, -ENOMEM, "no memory for %u extents", h->n_extents);
    ssize_t n = io_pread_all(fd, e, bytes, SEGMENT_EXTENTS_AT);
    if (n < 0)
        return err_set(err, (int)n, "cannot read its extents: %s", strerror((int)-n));
    Digest found = digest_of(e, bytes);
    if ((size_t)n < bytes || !digest_eq(&found, &h->extents))
        return err_set(err, -EBADMSG, "its extents are not those of its header");
    int r = h->n_extents ? check_extents(h, e, err) : err_set(err, -EBADMSG, "it has no extents");
    if (r == 0)
        *ret = TAKE_PTR(e);
    return r;
}

int segment_check_manifest(const SegmentHeader *h, const Manifest *m, Err *err) {
    Digest wanted = manifest_digest(m);
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    if (!digest_eq(&h->manifest, &wanted) || h->n_chunks != manifest_n_chunks(m) ||
            h->segment_bytes != manifest_segment_bytes(m))
        return err_set(err, -ESTALE, "it is of the manifest %s, wanted is %s",
                digest_hex(&h->manifest, a), digest_hex(&wanted, b));
    return 0;
}

int segment_check(int fd, const char *path, Err *err) {
    struct stat st;
    SegmentFile f = {.fd = fd};
    SegmentHeader h;
    if (fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot stat it: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "it is not a regular file");
    uid_t owner;
    if (places_owner(path, &owner) < 0)
        return err_set(err, -ENOMEM, "no memory for a path");
    if (st.st_uid != 0 && st.st_uid != owner)
        return err_set(err, -EPERM, "it belongs to user %ju, it must be root's or user %ju's",
                (uintmax_t)st.st_uid, (uintmax_t)owner);
    if (st.st_mode & S_IWOTH)
        return err_set(err, -EPERM, "everybody may write to it");
    int r = segment_file_examine(&f, err);
    if (r == 0)
        r = segment_file_header(fd, &h, err);
    if (r < 0)
        return r;
    if (h.place != h.first)
        return SEGMENT_FURTHER;
    _cleanup_free_ SegmentExtent *e = NULL;
    return segment_read_extents(fd, &h, &e, err);
}
