#include "store/segment.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/size.h"
#include "base/str.h"
#include "store/segment-format.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>

/* Owner: whoever opened it. map is shared with other processes; only the words at
 * SEGMENT_STATES_AT change after the file got its name. */
struct Segment {
    const Manifest *m;
    char *map;
    size_t map_bytes;
    int fd;       /* the writer's own, holds the lock; readers: borrowed */
    bool writing; /* fd is ours and the mapping writable */
    SegmentBacking backing;
    uint64_t page_bytes;
};

DEFINE_CLEANUP(Segment, segment_close)

/* How often a waiting reader asks whether the writer still lives. */
#define WRITER_CHECK_USEC (200 * USEC_PER_MSEC)

static _Atomic uint32_t *word(const Segment *s, size_t chunk) {
    assert(chunk < manifest_n_chunks(s->m));
    return (_Atomic uint32_t *)(s->map + SEGMENT_STATES_AT) + chunk;
}

static struct flock lock_of(short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
}

/* File system checks, and the sizes that follow from it. */
static int examine(int fd, SegmentBacking *ret_backing, uint64_t *ret_page, Err *err) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return err_set(err, -errno, "cannot tell its file system: %s", strerror(errno));
    if (fs.f_type != HUGETLBFS_MAGIC && fs.f_type != TMPFS_MAGIC)
        return err_set(err, -ENOTSUP,
                "it is on a file system of type 0x%jx, it must be on hugetlbfs or tmpfs",
                (uintmax_t)fs.f_type);
    *ret_backing = fs.f_type == HUGETLBFS_MAGIC ? SEGMENT_HUGETLB : SEGMENT_TMPFS;
    *ret_page = (uint64_t)fs.f_bsize;
    return 0;
}

static SegmentHeader header_of(const Manifest *m) {
    SegmentHeader h = {.version = SEGMENT_VERSION,
            .n_chunks = (uint32_t)manifest_n_chunks(m),
            .segment_bytes = manifest_segment_bytes(m),
            .manifest = manifest_digest(m)};
    memcpy(h.magic, SEGMENT_MAGIC, sizeof(h.magic));
    h.check = digest_of(&h, offsetof(SegmentHeader, check));
    return h;
}

/* Reads the header and checks it in itself; ret_bytes is the file's size. */
static int read_header(int fd, SegmentHeader *ret, uint64_t *ret_bytes, Err *err) {
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
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static int check_header(int fd, const Manifest *m, Err *err) {
    SegmentHeader found, wanted = header_of(m);
    uint64_t bytes = 0;
    int r = read_header(fd, &found, &bytes, err);
    if (r < 0)
        return r;
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    if (memcmp(&found, &wanted, sizeof(found)) != 0)
        return err_set(err, -ESTALE, "it is of the manifest %s, wanted is %s",
                digest_hex(&found.manifest, a), digest_hex(&wanted.manifest, b));
    if (bytes < found.segment_bytes)
        return err_set(err, -EBADMSG, "it has %ju bytes, its header says %ju", (uintmax_t)bytes,
                (uintmax_t)found.segment_bytes);
    return 0;
}

/* The states end before the first file. */
static int check_room_for_states(const Manifest *m, Err *err) {
    size_t most = (SEGMENT_PAGE - SEGMENT_STATES_AT) / sizeof(uint32_t);
    if (manifest_n_chunks(m) > most)
        return err_set(err, -EFBIG, "the manifest has %zu chunks, a segment holds %zu",
                manifest_n_chunks(m), most);
    return 0;
}

static int map(int fd, const Manifest *m, bool writing, Segment **ret, Err *err) {
    _cleanup_(segment_closep) Segment *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, -ENOMEM, "no memory for a segment");
    s->m = m;
    s->fd = -1;
    int r = examine(fd, &s->backing, &s->page_bytes, err);
    if (r == 0)
        r = check_room_for_states(m, err);
    if (r < 0)
        return r;
    size_t bytes = size_align(manifest_segment_bytes(m), MAX(s->page_bytes, (uint64_t)4096));
    int prot = writing ? PROT_READ | PROT_WRITE : PROT_READ;
    void *p = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, -errno, "cannot map %zu bytes: %s", bytes, strerror(errno));
    s->map = p;
    s->map_bytes = bytes;
    /* Advice that may fail: no huge pages in tmpfs, core files with the weights in them. */
    if (s->backing == SEGMENT_TMPFS)
        (void)madvise(p, bytes, MADV_HUGEPAGE);
    (void)madvise(p, bytes, MADV_DONTDUMP);
    /* 6 ms for 16 GiB, and page-locking takes a quarter less time where it finds page tables. */
    if (s->backing == SEGMENT_HUGETLB && !writing)
        (void)madvise(p, bytes, MADV_POPULATE_READ);
    s->fd = fd;
    *ret = TAKE_PTR(s);
    return 0;
}

static int allocate(int fd, uint64_t bytes, uint64_t page, SegmentBacking backing, Err *err) {
    if (ftruncate(fd, (off_t)bytes) < 0)
        return err_set(err, -errno, "cannot make it %ju bytes long: %s", (uintmax_t)bytes,
                strerror(errno));
    int r;
    do
        r = fallocate(fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
    while (r == -EINTR);
    if (r == -ENOMEM || r == -ENOSPC || r == -EDQUOT)
        return err_set(err, -ENOSPC, "cannot get %ju %s pages of %ju KiB",
                (uintmax_t)(bytes / page), backing == SEGMENT_HUGETLB ? "huge" : "memory",
                (uintmax_t)(page / KIB));
    if (r < 0)
        return err_set(err, r, "cannot allocate %ju bytes: %s", (uintmax_t)bytes, strerror(-r));
    return 0;
}

/* Pages of tmpfs become huge only when MADV_HUGEPAGE is in force where they are first touched: they
 * are touched through the mapping, not by fallocate. MADV_POPULATE_WRITE (Linux 5.14) reports a
 * lack of memory as an error where a plain store would raise SIGBUS. */
static int populate_tmpfs(Segment *s, Err *err) {
    struct statfs fs;
    if (fstatfs(s->fd, &fs) < 0)
        return err_set(err, -errno, "cannot tell the free space: %s", strerror(errno));
    if (fs.f_blocks && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < s->map_bytes)
        return err_set(err, -ENOSPC, "cannot get %zu bytes, the file system has %ju left",
                s->map_bytes, (uintmax_t)fs.f_bavail * (uintmax_t)fs.f_bsize);
    if (madvise(s->map, s->map_bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno == EINVAL) /* older kernel: small pages then */
        return allocate(s->fd, s->map_bytes, s->page_bytes, SEGMENT_TMPFS, err);
    return err_set(
            err, -ENOSPC, "cannot get %zu bytes of memory: %s", s->map_bytes, strerror(errno));
}

static int fill_new(int fd, const Manifest *m, Segment **ret, Err *err) {
    SegmentBacking backing = SEGMENT_TMPFS;
    uint64_t page = 0;
    int r = examine(fd, &backing, &page, err);
    if (r < 0)
        return r;
    uint64_t bytes = size_align(manifest_segment_bytes(m), MAX(page, (uint64_t)4096));
    struct flock lock = lock_of(F_WRLCK);
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return err_set(err, -errno, "cannot lock it: %s", strerror(errno));
    if (backing == SEGMENT_HUGETLB)
        r = allocate(fd, bytes, page, backing, err);
    else if (ftruncate(fd, (off_t)bytes) < 0)
        r = err_set(err, -errno, "cannot make it %ju bytes long: %s", (uintmax_t)bytes,
                strerror(errno));
    _cleanup_(segment_closep) Segment *s = NULL;
    if (r == 0)
        r = map(fd, m, true, &s, err);
    if (r == 0 && backing == SEGMENT_TMPFS)
        r = populate_tmpfs(s, err);
    if (r < 0)
        return r;
    SegmentHeader h = header_of(m);
    memcpy(s->map, &h, sizeof(h)); /* the states are zeros: empty */
    *ret = TAKE_PTR(s);
    return 0;
}

/* -EEXIST when another writer was first. */
static int create_new(const char *path, const Manifest *m, Segment **ret, Err *err) {
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return err_set(err, -ENOMEM, "no memory for a path");
    _cleanup_close_ int fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_set(err, -errno, "cannot make it: %s", strerror(errno));
    _cleanup_(segment_closep) Segment *s = NULL;
    int r = fill_new(fd, m, &s, err);
    if (r < 0)
        return r;
    char name[64];
    (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
        return err_set(err, -errno, "cannot give it its name: %s", strerror(errno));
    s->writing = true;
    s->fd = TAKE_FD(fd);
    *ret = TAKE_PTR(s);
    return 0;
}

/* The lock is ours: nobody else writes states. */
static void drop_unfinished(Segment *s) {
    for (size_t i = 0; i < manifest_n_chunks(s->m); i++)
        if (segment_state(s, i) != SEGMENT_READY)
            segment_set(s, i, SEGMENT_EMPTY);
}

/* Returns 0 with the segment; -EAGAIN when the file was removed and a new one must be made; -ENOENT
 * when there is none. */
static int take_over(const char *path, const Manifest *m, Segment **ret, Err *err) {
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT
                               : err_set(err, -errno, "cannot open it: %s", strerror(errno));
    SegmentBacking backing;
    uint64_t page;
    int r = examine(fd, &backing, &page, err);
    if (r < 0)
        return r;
    struct flock lock = lock_of(F_WRLCK);
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return err_set(err, errno == EAGAIN || errno == EACCES ? -EBUSY : -errno,
                "another process is filling it");
    struct stat here, named;
    if (fstat(fd, &here) < 0 || stat(path, &named) < 0 || here.st_ino != named.st_ino ||
            here.st_dev != named.st_dev)
        return -EAGAIN; /* replaced between open and lock */
    if (check_header(fd, m, NULL) < 0)
        return unlink(path) < 0
                       ? err_set(err, -errno, "cannot remove the old one: %s", strerror(errno))
                       : -EAGAIN;
    _cleanup_(segment_closep) Segment *s = NULL;
    r = map(fd, m, true, &s, err);
    if (r < 0)
        return r;
    s->writing = true;
    s->fd = TAKE_FD(fd);
    drop_unfinished(s);
    *ret = TAKE_PTR(s);
    return 0;
}

int segment_create(const char *path, const Manifest *m, Segment **ret, Err *err) {
    enum { ATTEMPTS = 8 }; /* each means that another writer made or removed the file meanwhile */
    int r = -EAGAIN;
    for (int i = 0; i < ATTEMPTS && (r == -EAGAIN || r == -EEXIST); i++) {
        err_clear(err);
        r = take_over(path, m, ret, err);
        if (r == -ENOENT || r == -EAGAIN)
            r = create_new(path, m, ret, err);
    }
    return r < 0 ? err_prefix(err, r, "segment '%s'", path) : 0;
}

int segment_open(int fd, const Manifest *m, Segment **ret, Err *err) {
    int r = check_header(fd, m, err);
    if (r == 0)
        r = map(fd, m, false, ret, err);
    return r < 0 ? err_prefix(err, r, "segment") : 0;
}

Segment *segment_close(Segment *s) {
    if (!s)
        return NULL;
    if (s->map)
        (void)munmap(s->map, s->map_bytes); /* our own mapping */
    if (s->writing)
        fd_closep(&s->fd);
    free(s);
    return NULL;
}

SegmentBacking segment_backing(const Segment *s) {
    return s->backing;
}

uint64_t segment_page_bytes(const Segment *s) {
    return s->page_bytes;
}

const void *segment_data(const Segment *s) {
    return s->map;
}

void *segment_chunk(Segment *s, size_t chunk, uint64_t *ret_bytes, uint64_t *ret_room) {
    *ret_bytes = manifest_chunk(s->m, chunk)->bytes;
    *ret_room = size_align(*ret_bytes, SEGMENT_PAGE);
    return s->map + manifest_chunk_segment_offset(s->m, chunk);
}

static long futex(_Atomic uint32_t *w, int op, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, w, op, value, timeout, NULL, 0);
}

void segment_set(Segment *s, size_t chunk, SegmentState state) {
    static const uint32_t words[] = {[SEGMENT_EMPTY] = SEGMENT_WORD_EMPTY,
            [SEGMENT_LOADING] = SEGMENT_WORD_LOADING,
            [SEGMENT_READY] = SEGMENT_WORD_READY,
            [SEGMENT_BAD] = SEGMENT_WORD_BAD};
    assert(s->writing);
    atomic_store_explicit(word(s, chunk), words[state], memory_order_release);
    (void)futex(word(s, chunk), FUTEX_WAKE, INT32_MAX, NULL); /* fails on bad addresses only */
}

static SegmentState state_of(uint32_t w) {
    switch (w) {
    case SEGMENT_WORD_EMPTY:
        return SEGMENT_EMPTY;
    case SEGMENT_WORD_LOADING:
        return SEGMENT_LOADING;
    case SEGMENT_WORD_READY:
        return SEGMENT_READY;
    default:
        return SEGMENT_BAD;
    }
}

SegmentState segment_state(const Segment *s, size_t chunk) {
    return state_of(atomic_load_explicit(word(s, chunk), memory_order_acquire));
}

bool segment_has_writer(const Segment *s) {
    struct flock lock = lock_of(F_WRLCK);
    return s->writing || fcntl(s->fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

static int say_bad(const Segment *s, size_t chunk, Err *err) {
    const ManifestChunk *c = manifest_chunk(s->m, chunk);
    return err_set(err, -EBADMSG, "segment: the %ju bytes from %ju on of '%s' could not be loaded",
            (uintmax_t)c->bytes, (uintmax_t)c->offset, manifest_file(s->m, c->file)->path);
}

int segment_wait(Segment *s, size_t chunk, uint64_t timeout_usec, Err *err) {
    uint64_t deadline = clock_deadline(timeout_usec);
    for (;;) {
        uint32_t seen = atomic_load_explicit(word(s, chunk), memory_order_acquire);
        if (state_of(seen) == SEGMENT_READY)
            return 0;
        if (state_of(seen) == SEGMENT_BAD)
            return say_bad(s, chunk, err);
        uint64_t left = clock_left(deadline);
        if (left == 0)
            return SEGMENT_TIMEOUT;
        /* Asked before the word is read again: a writer that published and left is not missed. */
        if (!segment_has_writer(s)) {
            if (segment_state(s, chunk) == SEGMENT_READY)
                return 0;
            return err_set(err, -EPIPE,
                    "segment: chunk %zu of %zu is not loaded and nobody loads it", chunk,
                    manifest_n_chunks(s->m));
        }
        uint64_t usec = MIN(left, (uint64_t)WRITER_CHECK_USEC);
        struct timespec t = {.tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_nsec = (long)(usec % USEC_PER_SEC * 1000)};
        (void)futex(word(s, chunk), FUTEX_WAIT, seen, &t); /* whatever ended it, look again */
    }
}

static bool all_zero(const char *p, size_t n) {
    while (n > 0 && *p == 0) {
        p++;
        n--;
    }
    return n == 0;
}

int segment_compare(const Segment *s, size_t chunk, const Digest *found, Err *err) {
    const ManifestChunk *c = manifest_chunk(s->m, chunk);
    const char *data = s->map + manifest_chunk_segment_offset(s->m, chunk);
    const char *path = manifest_file(s->m, c->file)->path;
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    if (!digest_eq(found, &c->digest))
        return err_set(err, -EBADMSG,
                "'%s': the %ju bytes from %ju on have the digest %s, the manifest says %s", path,
                (uintmax_t)c->bytes, (uintmax_t)c->offset, digest_hex(found, a),
                digest_hex(&c->digest, b));
    if (!all_zero(data + c->bytes, size_align(c->bytes, SEGMENT_PAGE) - c->bytes))
        return err_set(err, -EBADMSG, "'%s': the page behind its last byte is not zero", path);
    return 0;
}

int segment_verify(const Segment *s, size_t chunk, Err *err) {
    const char *data = s->map + manifest_chunk_segment_offset(s->m, chunk);
    Digest found = digest_of(data, manifest_chunk(s->m, chunk)->bytes);
    return segment_compare(s, chunk, &found, err);
}

int segment_evict(const char *path, Err *err) {
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0
                               : err_set(err, -errno, "cannot open the segment '%s': %s", path,
                                         strerror(errno));
    struct flock lock = lock_of(F_WRLCK);
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return err_set(err, -EBUSY, "the segment '%s' is being filled", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return err_set(err, -errno, "cannot remove the segment '%s': %s", path, strerror(errno));
    return 0;
}

int segment_check(int fd, Err *err) {
    struct stat st;
    SegmentBacking backing;
    uint64_t page, bytes = 0;
    SegmentHeader h;
    if (fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot stat it: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "it is not a regular file");
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return err_set(err, -EPERM, "it belongs to user %ju, it must be root's or user %ju's",
                (uintmax_t)st.st_uid, (uintmax_t)geteuid());
    if (st.st_mode & S_IWOTH)
        return err_set(err, -EPERM, "everybody may write to it");
    int r = examine(fd, &backing, &page, err);
    if (r == 0)
        r = read_header(fd, &h, &bytes, err);
    if (r == 0 && bytes < h.segment_bytes)
        r = err_set(err, -EBADMSG, "it has %ju bytes, its header says %ju", (uintmax_t)bytes,
                (uintmax_t)h.segment_bytes);
    return r;
}
