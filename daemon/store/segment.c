#include "base/clock.h"
#include "base/size.h"
#include "store/segment-impl.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

/* How often a waiting reader asks whether the writer still lives. */
#define WRITER_CHECK_USEC (200 * USEC_PER_MSEC)

static _Atomic uint32_t *word(const Segment *s, size_t chunk) {
    assert(chunk < manifest_n_chunks(s->m));
    return (_Atomic uint32_t *)(s->map + SEGMENT_STATES_AT) + chunk;
}

Segment *segment_new(const Manifest *m) {
    Segment *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->m = m;
    s->fd = -1;
    for (int i = 0; i < N_PLACES; i++)
        s->file[i].fd = -1;
    return s;
}

static bool has_place(const Segment *s, int place) {
    for (size_t i = 0; i < s->head.n_extents; i++)
        if ((int)s->extent[i].place == place)
            return true;
    return false;
}

/* Of this segment, and as trustworthy as its first file. */
static int open_further(
        const Segment *s, const char *path, int place, int flags, SegmentFile *ret, Err *err) {
    _cleanup_free_ char *file = path ? places_path(path, place) : NULL;
    if (!file)
        return path ? err_set(err, -ENOMEM, "no memory for a path")
                    : err_set(err, -ESTALE, "it has another file, whose place is not known");
    _cleanup_close_ int fd = open(file, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? -ESTALE : -errno, "cannot open its file '%s': %s",
                file, strerror(errno));
    int r = segment_check(fd, path, err);
    if (r < 0)
        return err_prefix(err, r, "its file '%s'", file);
    SegmentHeader h, wanted = s->head;
    wanted.place = (uint32_t)place;
    wanted.check = digest_of(&wanted, offsetof(SegmentHeader, check));
    r = segment_file_header(fd, &h, err);
    if (r < 0 || memcmp(&h, &wanted, sizeof(h)) != 0)
        return r < 0 ? r : err_set(err, -ESTALE, "its file '%s' is of another segment", file);
    *ret = (SegmentFile){.fd = TAKE_FD(fd)};
    return 0;
}

int segment_open_files(Segment *s, const char *path, int flags, Err *err) {
    s->file[s->head.first].fd = s->fd;
    for (int i = 0; i < N_PLACES; i++) {
        if (!has_place(s, i))
            continue;
        SegmentFile *f = &s->file[i];
        int r = f->fd >= 0 ? 0 : open_further(s, path, i, flags, f, err);
        if (r == 0)
            r = segment_file_examine(f, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int map_extent(const Segment *s, const SegmentExtent *e, Err *err) {
    const SegmentFile *f = &s->file[e->place];
    struct stat st;
    char *at = s->map + e->begin;
    int prot = s->writing ? PROT_READ | PROT_WRITE : PROT_READ;
    if (fstat(f->fd, &st) < 0 || (uint64_t)st.st_size < e->begin + e->bytes)
        return err_set(err, -EBADMSG, "its file in place %u ends before byte %ju", e->place,
                (uintmax_t)(e->begin + e->bytes));
    if (mmap(at, e->bytes, prot, MAP_SHARED | MAP_FIXED, f->fd, (off_t)e->begin) == MAP_FAILED)
        return err_set(err, -errno, "cannot map %ju bytes from %ju on: %s", (uintmax_t)e->bytes,
                (uintmax_t)e->begin, strerror(errno));
    if (f->backing == SEGMENT_TMPFS)
        (void)madvise(at, e->bytes, MADV_HUGEPAGE); /* advice: the kernel may have none */
    return 0;
}

/* Addresses for all of it first, on a boundary of the largest page, so that a file's pages and the
 * processor's coincide; then each extent over its part of them. */
int segment_map(Segment *s, Err *err) {
    const SegmentExtent *last = &s->extent[s->head.n_extents - 1];
    uint64_t bytes = last->begin + last->bytes, unit = SEGMENT_PAGE;
    for (size_t i = 0; i < s->head.n_extents; i++)
        unit = MAX(unit, s->file[s->extent[i].place].page_bytes);
    s->reserved_bytes = bytes + unit;
    void *p = mmap(
            NULL, s->reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, -errno, "cannot get %zu bytes of addresses: %s", s->reserved_bytes,
                strerror(errno));
    s->reserved = p;
    s->map = (char *)size_align((uintptr_t)p, unit);
    for (size_t i = 0; i < s->head.n_extents; i++) {
        int r = map_extent(s, &s->extent[i], err);
        if (r < 0)
            return r;
    }
    (void)madvise(
            s->map, bytes, MADV_DONTDUMP); /* advice: no core files with the weights in them */
    return 0;
}

static bool is_full(const Segment *s) {
    for (size_t i = 0; i < manifest_n_chunks(s->m); i++)
        if (segment_state(s, i) != SEGMENT_READY)
            return false;
    return true;
}

/* 6 ms for 16 GiB, and page-locking takes a quarter less time where it finds page tables. Pages
 * that are only promised are left to the writer: here, one thread would clear them. */
static void make_page_tables(const Segment *s) {
    bool full = is_full(s);
    for (size_t i = 0; full && i < s->head.n_extents; i++) {
        const SegmentExtent *e = &s->extent[i];
        if (s->file[e->place].backing == SEGMENT_HUGETLB)
            (void)madvise(s->map + e->begin, e->bytes, MADV_POPULATE_READ); /* advice */
    }
}

static void close_files(Segment *s) {
    for (int i = 0; i < N_PLACES; i++) {
        if (!s->writing && s->file[i].fd == s->fd)
            s->file[i].fd = -1; /* borrowed */
        fd_closep(&s->file[i].fd);
    }
}

static int open_mapped(int fd, const char *path, Segment *s, Err *err) {
    s->fd = fd;
    int r = segment_file_header(fd, &s->head, err);
    if (r == 0 && s->head.place != s->head.first)
        r = err_set(err, -EBADMSG, "it is not its segment's first file");
    if (r == 0)
        r = segment_check_manifest(&s->head, s->m, err);
    if (r == 0)
        r = segment_read_extents(fd, &s->head, &s->extent, err);
    if (r == 0)
        r = segment_open_files(s, path, O_RDONLY, err);
    if (r == 0)
        r = segment_map(s, err);
    if (r == 0)
        make_page_tables(s);
    close_files(s); /* the mappings stay */
    return r;
}

int segment_open(int fd, const char *path, const Manifest *m, Segment **ret, Err *err) {
    _cleanup_(segment_closep) Segment *s = segment_new(m);
    if (!s)
        return err_set(err, -ENOMEM, "no memory for a segment");
    int r = open_mapped(fd, path, s, err);
    if (r < 0)
        return err_prefix(err, r, "segment");
    *ret = TAKE_PTR(s);
    return 0;
}

Segment *segment_close(Segment *s) {
    if (!s)
        return NULL;
    if (s->reserved)
        (void)munmap(s->reserved, s->reserved_bytes); /* our own mapping */
    close_files(s);
    free(s->extent);
    free(s);
    return NULL;
}

size_t segment_n_extents(const Segment *s) {
    return s->head.n_extents;
}

void segment_extent(const Segment *s, size_t i, const void **ret_data, uint64_t *ret_bytes) {
    assert(i < s->head.n_extents);
    const SegmentExtent *e = &s->extent[i];
    uint64_t end = MIN(e->begin + e->bytes, s->head.segment_bytes);
    uint64_t begin = i == 0 ? SEGMENT_PAGE : e->begin;
    *ret_data = s->map + begin;
    *ret_bytes = end - MIN(begin, end);
}

size_t segment_shares(const Segment *s, SegmentShare ret[static N_PLACES]) {
    size_t n = 0;
    for (int i = 0; i < N_PLACES; i++) {
        SegmentShare share = {
                .place = i, .backing = s->file[i].backing, .page_bytes = s->file[i].page_bytes};
        for (size_t k = 0; k < s->head.n_extents; k++)
            if ((int)s->extent[k].place == i)
                share.bytes += s->extent[k].bytes;
        if (share.bytes)
            ret[n++] = share;
    }
    return n;
}

const void *segment_data(const Segment *s) {
    return s->map;
}

void *segment_chunk(Segment *s, size_t chunk, uint64_t *ret_bytes, uint64_t *ret_room) {
    *ret_bytes = manifest_chunk(s->m, chunk)->bytes;
    *ret_room = size_align(*ret_bytes, SEGMENT_PAGE);
    return s->map + manifest_chunk_segment_offset(s->m, chunk);
}

bool segment_chunk_is_huge(const Segment *s, size_t chunk) {
    uint64_t begin = manifest_chunk_segment_offset(s->m, chunk);
    uint64_t end = begin + manifest_chunk(s->m, chunk)->bytes;
    for (size_t i = 0; i < s->head.n_extents; i++) {
        const SegmentExtent *e = &s->extent[i];
        if (e->begin < end && begin < e->begin + e->bytes &&
                s->file[e->place].backing != SEGMENT_HUGETLB)
            return false;
    }
    return true;
}

int segment_populate(const Segment *s, size_t chunk, uint64_t at, uint64_t bytes) {
    assert(s->writing);
    char *p = s->map + manifest_chunk_segment_offset(s->m, chunk) + at;
    if (madvise(p, bytes, MADV_POPULATE_WRITE) == 0 || errno == EINVAL) /* before Linux 5.14 */
        return 0;
    return errno == EFAULT ? -ENOMEM : -errno; /* a fault that found no page */
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
    return s->writing || segment_file_is_locked(s->fd);
}

static bool is_removed(const Segment *s) {
    struct stat st;
    return fstat(s->fd, &st) < 0 || st.st_nlink == 0;
}

static int say_bad(const Segment *s, size_t chunk, Err *err) {
    const ManifestChunk *c = manifest_chunk(s->m, chunk);
    return err_set(err, -EBADMSG, "segment: the %ju bytes from %ju on of '%s' could not be loaded",
            (uintmax_t)c->bytes, (uintmax_t)c->offset, manifest_file(s->m, c->file)->path);
}

static int say_abandoned(const Segment *s, size_t chunk, int code, Err *err) {
    return err_set(err, code, "segment: chunk %zu of %zu is not loaded and nobody loads it", chunk,
            manifest_n_chunks(s->m));
}

int segment_check_supply(const Segment *s, Err *err) {
    /* Asked before the words are read: a writer that publishes and leaves is not missed. */
    bool has_writer = segment_has_writer(s);
    for (size_t i = 0; i < manifest_n_chunks(s->m); i++) {
        SegmentState state = segment_state(s, i);
        if (state == SEGMENT_BAD)
            return say_bad(s, i, err);
        if (state != SEGMENT_READY && !has_writer)
            return say_abandoned(s, i, -EPIPE, err);
    }
    return 0;
}

int segment_wait(Segment *s, size_t chunk, uint64_t timeout_usec, Err *err) {
    uint64_t deadline = clock_deadline(timeout_usec), alone = USEC_INFINITY;
    for (;;) {
        uint32_t seen = atomic_load_explicit(word(s, chunk), memory_order_acquire);
        if (state_of(seen) == SEGMENT_READY)
            return 0;
        if (state_of(seen) == SEGMENT_BAD)
            return say_bad(s, chunk, err);
        uint64_t left = clock_left(deadline);
        if (left == 0)
            return SEGMENT_TIMEOUT;
        if (atomic_load_explicit(&s->cancelled, memory_order_relaxed))
            return err_set(err, -ECANCELED, "segment: waiting for chunk %zu was given up", chunk);
        /* Asked before the word is read again: a writer that published and left is not missed. */
        if (!segment_has_writer(s)) {
            if (segment_state(s, chunk) == SEGMENT_READY)
                return 0;
            alone = MIN(alone, clock_deadline(SEGMENT_ALONE_USEC));
            if (is_removed(s) || clock_left(alone) == 0)
                return say_abandoned(s, chunk, -ENOLINK, err);
        } else {
            alone = USEC_INFINITY;
        }
        uint64_t usec = MIN(left, (uint64_t)WRITER_CHECK_USEC);
        struct timespec t = {.tv_sec = (time_t)(usec / USEC_PER_SEC),
                .tv_nsec = (long)(usec % USEC_PER_SEC * 1000)};
        (void)futex(word(s, chunk), FUTEX_WAIT, seen, &t); /* whatever ended it, look again */
    }
}

void segment_cancel(Segment *s) {
    atomic_store_explicit(&s->cancelled, true, memory_order_relaxed);
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
