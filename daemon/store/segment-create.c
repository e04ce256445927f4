/* The writer's way to a segment: going on with one that is there, or taking memory for a new one,
 * 2 MiB by 2 MiB from the places in their order. */
#include "base/pool.h"
#include "base/size.h"
#include "base/str.h"
#include "store/segment-impl.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/mempolicy.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

DEFINE_CLEANUP(Pool, pool_free)

enum {
    NO_PLACE = UINT8_MAX,
    POPULATERS = 8, /* threads; more than use up the memory's bandwidth are of no use */
};
#define POPULATE_SLICE (16 * MIB)

/* A segment whose files have no names yet: killed at any moment, nothing is left behind. */
typedef struct Draft {
    const Manifest *m;
    const char *path;
    SegmentFile file[N_PLACES];
    bool named[N_PLACES];
    int first;        /* -1: none yet */
    size_t n_units;   /* of 2 MiB */
    size_t n_missing; /* without a place */
    uint8_t *place;   /* [n_units] or NO_PLACE */
    bool promising;   /* huge pages are promised now and taken when the segment is filled */
    Pool *pool;       /* that clears pages */
    Err why;          /* why the first place that gave less than all gave no more */
} Draft;

/* For kernels without MADV_POPULATE_WRITE: one thread, and small pages in tmpfs. */
static int allocate(const SegmentFile *f, uint64_t begin, uint64_t bytes) {
    int r;
    do
        r = fallocate(f->fd, 0, (off_t)begin, (off_t)bytes) < 0 ? -errno : 0;
    while (r == -EINTR);
    return r;
}

typedef struct Populate {
    char *at;
    uint64_t bytes;
    atomic_int error; /* errno of a slice that failed */
} Populate;

static void populate_slices(void *context, int64_t begin, int64_t end, int worker) {
    Populate *p = context;
    for (int64_t i = begin; i < end; i++) {
        uint64_t at = (uint64_t)i * POPULATE_SLICE, n = MIN(POPULATE_SLICE, p->bytes - at);
        if (madvise(p->at + at, n, MADV_POPULATE_WRITE) < 0)
            atomic_store(&p->error, errno);
    }
}

/* Pages of tmpfs become huge only when MADV_HUGEPAGE is in force where they are first touched, and
 * clearing pages takes as long as reading them from a disk unless several threads do it: both speak
 * for touching them through a mapping, which must promise no huge pages (has_memory_policy()).
 * MADV_POPULATE_WRITE (Linux 5.14) reports a lack of memory as an error where a plain store would
 * raise SIGBUS. */
static int populate(const Draft *d, const SegmentFile *f, uint64_t begin, uint64_t bytes) {
    /* Huge pages want an address like their offset's. */
    uint64_t unit = MAX(f->page_bytes, SEGMENT_PAGE);
    char *p =
            mmap(NULL, bytes + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    Populate range = {.at = (char *)size_align((uintptr_t)p, unit), .bytes = bytes};
    int flags = MAP_SHARED | MAP_FIXED | (f->backing == SEGMENT_HUGETLB ? MAP_NORESERVE : 0);
    int r = 0;
    if (mmap(range.at, bytes, PROT_READ | PROT_WRITE, flags, f->fd, (off_t)begin) == MAP_FAILED) {
        r = -errno;
    } else {
        (void)madvise(range.at, bytes, MADV_HUGEPAGE); /* advice, refused by hugetlbfs */
        pool_for(d->pool, (int64_t)((bytes + POPULATE_SLICE - 1) / POPULATE_SLICE), 1,
                populate_slices, &range);
        r = -atomic_load(&range.error);
        if (r == -EFAULT) /* a fault that found no page */
            r = -ENOMEM;
    }
    (void)munmap(p, bytes + unit);
    return r == -EINVAL ? allocate(f, begin, bytes) : r;
}

/* The kernel keeps that many huge pages for the file from here on, for as long as it exists,
 * whoever maps it: taking them later cannot fail. That takes no time, where clearing them takes as
 * long as a fast disk needs to fill them. */
static int promise(const SegmentFile *f, uint64_t begin, uint64_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, (off_t)begin);
    if (p == MAP_FAILED)
        return -errno;
    (void)munmap(p, bytes);
    return 0;
}

/* Huge pages that are promised come from the node that this thread happens to run on, whatever its
 * policy: where it has one they are taken at once, one by one. */
static bool has_memory_policy(void) {
    int mode = MPOL_DEFAULT;
    return syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) == 0 && mode != MPOL_DEFAULT;
}

/* Where the file system has a limit of its own, it is told instead of reached. */
static int check_space(const SegmentFile *f, uint64_t bytes, Err *err) {
    struct statfs fs;
    if (f->backing == SEGMENT_HUGETLB)
        return 0;
    if (fstatfs(f->fd, &fs) < 0)
        return err_set(err, -errno, "cannot tell the free space: %s", strerror(errno));
    if (fs.f_blocks && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < bytes)
        return err_set(err, -ENOSPC, "cannot get %ju more bytes, the file system has %ju left",
                (uintmax_t)bytes, (uintmax_t)fs.f_bavail * (uintmax_t)fs.f_bsize);
    return 0;
}

static bool is_promised(const Draft *d, const SegmentFile *f) {
    return d->promising && f->backing == SEGMENT_HUGETLB;
}

/* All of the range or nothing of it: what an attempt that failed had got already is given back. */
static int take_range(
        const Draft *d, const SegmentFile *f, uint64_t begin, uint64_t bytes, Err *err) {
    int r = check_space(f, bytes, err);
    if (r < 0)
        return r;
    r = is_promised(d, f) ? promise(f, begin, bytes) : populate(d, f, begin, bytes);
    if (r == 0)
        return 0;
    (void)fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin, (off_t)bytes);
    return err_set(err, -ENOSPC, "cannot get %ju more %s pages of %ju KiB: %s",
            (uintmax_t)(bytes / f->page_bytes), f->backing == SEGMENT_HUGETLB ? "huge" : "memory",
            (uintmax_t)(f->page_bytes / KIB), strerror(-r));
}

static void set_place(Draft *d, size_t unit, size_t n, uint8_t place) {
    for (size_t i = unit; i < unit + n; i++) {
        d->n_missing += place == NO_PLACE;
        d->n_missing -= d->place[i] == NO_PLACE;
        d->place[i] = place;
    }
}

static int take_units(Draft *d, int place, size_t unit, size_t n, Err *err) {
    int r = take_range(d, &d->file[place], unit * SEGMENT_PAGE, n * SEGMENT_PAGE, err);
    if (r == 0)
        set_place(d, unit, n, (uint8_t)place);
    return r;
}

/* A hole takes back the promise of a page that was taken only. */
static void give_back_units(Draft *d, int place, size_t unit, size_t n) {
    const SegmentFile *f = &d->file[place];
    for (size_t i = unit; i < unit + n; i++) {
        if (d->place[i] != place)
            continue;
        if (is_promised(d, f))
            (void)allocate(f, i * SEGMENT_PAGE, SEGMENT_PAGE);
        (void)fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                (off_t)(i * SEGMENT_PAGE), (off_t)SEGMENT_PAGE);
        set_place(d, i, 1, NO_PLACE);
    }
}

/* What the chunk still lacks: all of it, or what lies behind a page of 1 GiB. */
static int take_chunk(Draft *d, int place, size_t chunk, Err *err) {
    size_t begin = manifest_chunk_segment_offset(d->m, chunk) / SEGMENT_PAGE;
    size_t end =
            begin + size_align(manifest_chunk(d->m, chunk)->bytes, SEGMENT_PAGE) / SEGMENT_PAGE;
    for (size_t i = begin, n; i < end; i += MAX(n, (size_t)1)) {
        for (n = 0; i + n < end && d->place[i + n] == NO_PLACE; n++)
            ;
        int r = n ? take_units(d, place, i, n, err) : 0;
        if (r < 0) {
            give_back_units(d, place, begin, end - begin);
            return r;
        }
    }
    return 0;
}

/* By first use, until there is no more. */
static int take_chunks(Draft *d, int place, Err *err) {
    for (size_t i = 0; i < manifest_n_chunks(d->m) && d->n_missing; i++) {
        int r = take_chunk(d, place, i, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Pages of 1 GiB: from the beginning on, each of which the segment fills at least half. */
static int take_large_pages(Draft *d, int place, Err *err) {
    uint64_t page = d->file[place].page_bytes;
    size_t each = page / SEGMENT_PAGE;
    for (size_t i = 0; i < d->n_units; i += each) {
        size_t n = MIN(each, d->n_units - i);
        if (n < (each + 1) / 2)
            return err_set(err, -ENOSPC, "its pages of %ju MiB are too large for the last %zu MiB",
                    (uintmax_t)(page / MIB), n * (size_t)(SEGMENT_PAGE / MIB));
        int r = take_range(d, &d->file[place], i * SEGMENT_PAGE, page, err);
        if (r < 0)
            return r;
        set_place(d, i, n, (uint8_t)place);
    }
    return 0;
}

static int open_draft(const Draft *d, int place, SegmentFile *ret, Err *err) {
    _cleanup_free_ char *path = places_path(d->path, place), *copy = path ? strdup(path) : NULL;
    if (!copy)
        return err_set(err, -ENOMEM, "no memory for a path");
    if (access(path, F_OK) == 0) /* not to be removed, else it were no more */
        return err_set(err, -EEXIST, "'%s' is there and not ours", path);
    _cleanup_close_ int fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_set(err, -errno, "cannot make a file in '%s': %s", copy, strerror(errno));
    SegmentFile f = {.fd = fd};
    int r = segment_file_examine(&f, err);
    if (r == 0)
        r = segment_file_lock(fd, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", copy);
    uint64_t bytes = size_align(d->n_units * SEGMENT_PAGE, f.page_bytes);
    if (ftruncate(fd, (off_t)bytes) < 0)
        return err_set(err, -ENOSPC, "cannot make a file of %ju bytes in '%s': %s",
                (uintmax_t)bytes, copy, strerror(errno));
    f.fd = TAKE_FD(fd);
    *ret = f;
    return 0;
}

/* The header page: of the first file it belongs to the segment, of a further one it comes on top.
 */
static int take_head(Draft *d, int place, Err *err) {
    const SegmentFile *f = &d->file[place];
    return d->first < 0 ? take_units(d, place, 0, 1, err)
                        : take_range(d, f, 0, MIN(f->page_bytes, SEGMENT_PAGE), err);
}

/* Returns 0 when the place gave something, or nothing was missing any more. */
static int take_from(Draft *d, int place, Err *err) {
    SegmentFile *f = &d->file[place];
    int r = open_draft(d, place, f, err);
    if (r < 0)
        return r;
    bool large = f->page_bytes > SEGMENT_PAGE;
    size_t before = d->n_missing, head = d->first < 0 && !large;
    if (large) {
        r = d->first < 0 ? take_large_pages(d, place, err)
                         : err_set(err, -ENOSPC, "its pages are too large to hold a rest");
    } else {
        r = take_head(d, place, err);
        if (r == 0)
            r = take_chunks(d, place, err);
    }
    if (before - d->n_missing <= head) { /* no chunk, hence no use */
        give_back_units(d, place, 0, 1);
        fd_closep(&f->fd);
    } else if (d->first < 0) {
        d->first = place;
    }
    return r;
}

static int take_memory(Draft *d, Err *err) {
    int r = -ENOSPC;
    for (int i = 0; i < N_PLACES && d->n_missing; i++) {
        Err mine = {0};
        r = take_from(d, i, &mine);
        if (r == -ENOMEM)
            return err_set(err, r, "%s", err_text(&mine));
        bool absent = r == -ENOENT || r == -ENOTSUP;
        if (r < 0 && (d->why.code == 0 || (d->why.code == -ENOENT && !absent)))
            d->why = mine;
    }
    if (d->n_missing == 0)
        return 0;
    return err_set(err, -ENOSPC, "cannot get memory for %zu of %zu MiB: %s",
            d->n_missing * (size_t)(SEGMENT_PAGE / MIB), d->n_units * (size_t)(SEGMENT_PAGE / MIB),
            err_text(&d->why));
}

static bool extends(const SegmentExtent *e, size_t n, uint8_t place) {
    return n > 0 && e[n - 1].place == place;
}

/* Neighbours in one place are one extent. */
static int make_extents(const Draft *d, Segment *s, Err *err) {
    size_t n = 0;
    for (size_t i = 0; i < d->n_units; i++)
        n += i == 0 || d->place[i] != d->place[i - 1];
    if (n > SEGMENT_MAX_EXTENTS)
        return err_set(err, -EFBIG, "the memory is in %zu pieces, a segment holds %zu", n,
                (size_t)SEGMENT_MAX_EXTENTS);
    SegmentExtent *e = calloc(n, sizeof(*e));
    if (!e)
        return err_set(err, -ENOMEM, "no memory for %zu extents", n);
    size_t used = 0;
    for (size_t i = 0; i < d->n_units; i++) {
        if (!extends(e, used, d->place[i]))
            e[used++] = (SegmentExtent){.begin = i * SEGMENT_PAGE, .place = d->place[i]};
        e[used - 1].bytes += SEGMENT_PAGE;
    }
    e[n - 1].bytes = size_align(e[n - 1].begin + e[n - 1].bytes,
                             MAX(d->file[e[n - 1].place].page_bytes, SEGMENT_PAGE)) -
                     e[n - 1].begin;
    s->extent = e;
    s->head.n_extents = (uint32_t)n;
    return 0;
}

static int write_header(const SegmentFile *f, SegmentHeader h, int place, Err *err) {
    uint64_t bytes = MIN(f->page_bytes, SEGMENT_PAGE);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, -errno, "cannot map a header: %s", strerror(errno));
    h.place = (uint32_t)place;
    h.check = digest_of(&h, offsetof(SegmentHeader, check));
    memcpy(p, &h, sizeof(h));
    (void)munmap(p, bytes);
    return 0;
}

/* Headers and extents; the states are zeros: empty. */
static int write_layout(const Draft *d, Segment *s, Err *err) {
    s->head = (SegmentHeader){.version = SEGMENT_VERSION,
            .n_chunks = (uint32_t)manifest_n_chunks(d->m),
            .segment_bytes = manifest_segment_bytes(d->m),
            .manifest = manifest_digest(d->m),
            .place = (uint32_t)d->first,
            .first = (uint32_t)d->first};
    memcpy(s->head.magic, SEGMENT_MAGIC, sizeof(s->head.magic));
    if (getrandom(s->head.id, sizeof(s->head.id), 0) != (ssize_t)sizeof(s->head.id))
        return err_set(err, -EIO, "cannot get a random number for its name");
    int r = make_extents(d, s, err);
    if (r < 0)
        return r;
    segment_seal(&s->head, s->extent);
    s->fd = d->file[d->first].fd;
    memcpy(s->file, d->file, sizeof(s->file));
    s->writing = true; /* the descriptors are the segment's */
    r = segment_map(s, err);
    if (r < 0)
        return r;
    memcpy(s->map + SEGMENT_EXTENTS_AT, s->extent, s->head.n_extents * sizeof(*s->extent));
    memcpy(s->map, &s->head, sizeof(s->head));
    for (int i = d->first + 1; r == 0 && i < N_PLACES; i++)
        if (s->file[i].fd >= 0)
            r = write_header(&s->file[i], s->head, i, err);
    return r;
}

static int give_name(Draft *d, int place, int fd, Err *err) {
    _cleanup_free_ char *path = places_path(d->path, place);
    char name[64];
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
        return err_set(err, -errno, "cannot give it the name '%s': %s", path, strerror(errno));
    d->named[place] = true;
    return 0;
}

/* The first file last: who finds it finds them all. */
static int give_names(Draft *d, const Segment *s, Err *err) {
    int r = 0;
    for (int i = N_PLACES - 1; r == 0 && i >= 0; i--)
        if (s->file[i].fd >= 0)
            r = give_name(d, i, s->file[i].fd, err);
    for (int i = 0; r < 0 && i < N_PLACES; i++) {
        _cleanup_free_ char *path = d->named[i] ? places_path(d->path, i) : NULL;
        if (path)
            (void)unlink(path); /* ours and locked; left behind it would be removed by the next */
    }
    return r;
}

static int check_room_for_states(const Manifest *m, Err *err) {
    if (manifest_n_chunks(m) > SEGMENT_MAX_CHUNKS)
        return err_set(err, -EFBIG, "the manifest has %zu chunks, a segment holds %zu",
                manifest_n_chunks(m), (size_t)SEGMENT_MAX_CHUNKS);
    return 0;
}

static int make_from(Draft *d, Segment **ret, Err *err) {
    _cleanup_(segment_closep) Segment *s = segment_new(d->m);
    if (!s)
        return err_set(err, -ENOMEM, "no memory for a segment");
    int r = take_memory(d, err);
    if (r < 0)
        return r;
    r = write_layout(d, s, err);
    for (int i = 0; s->writing && i < N_PLACES; i++)
        d->file[i].fd = -1; /* the segment's */
    if (r == 0)
        r = give_names(d, s, err);
    if (r == 0)
        *ret = TAKE_PTR(s);
    return r;
}

/* -EEXIST when another writer was first. */
static int create_new(
        const char *path, const Manifest *m, bool promising, Segment **ret, Err *err) {
    Draft d = {.m = m, .path = path, .first = -1, .promising = promising};
    int r = check_room_for_states(m, err);
    if (r < 0)
        return r;
    d.n_units = d.n_missing = manifest_segment_bytes(m) / SEGMENT_PAGE;
    _cleanup_free_ uint8_t *place = malloc(d.n_units);
    if (!place)
        return err_set(err, -ENOMEM, "no memory to lay out %zu pages", d.n_units);
    _cleanup_(pool_freep) Pool *pool = NULL;
    r = pool_new(POPULATERS, &pool, err);
    if (r < 0)
        return r;
    d.pool = pool;
    memset(place, NO_PLACE, d.n_units);
    d.place = place;
    for (int i = 0; i < N_PLACES; i++)
        d.file[i].fd = -1;
    r = make_from(&d, ret, err);
    for (int i = 0; i < N_PLACES; i++)
        fd_closep(&d.file[i].fd);
    return r;
}

/* The lock is ours: nobody else writes states. */
static void drop_unfinished(Segment *s) {
    for (size_t i = 0; i < manifest_n_chunks(s->m); i++)
        if (segment_state(s, i) != SEGMENT_READY)
            segment_set(s, i, SEGMENT_EMPTY);
}

/* Opens what is in a place and locks it. -ENOENT: nothing, or nothing of ours. */
static int open_locked(const char *path, int place, Err *err) {
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat here, named;
    if (fd < 0 && (errno == ENOENT || place == PLACE_PUBLIC))
        return -ENOENT;
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    SegmentFile f = {.fd = fd};
    int r = segment_file_examine(&f, err);
    if (r == -ENOTSUP) {
        err_clear(err);
        return -ENOENT;
    }
    if (r == 0)
        r = segment_file_lock(fd, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", path);
    if (fstat(fd, &here) < 0 || stat(path, &named) < 0 || here.st_ino != named.st_ino ||
            here.st_dev != named.st_dev)
        return -EAGAIN; /* replaced between open and lock */
    return TAKE_FD(fd);
}

/* fd is taken over. */
static int continue_with(int first, const char *path, Segment *s, Err *err) {
    _cleanup_close_ int fd = first;
    s->fd = fd;
    int r = segment_file_header(fd, &s->head, err);
    if (r == 0 && s->head.place != s->head.first)
        r = err_set(err, -ESTALE, "it has lost its first file");
    if (r == 0)
        r = segment_check_manifest(&s->head, s->m, err);
    if (r == 0)
        r = segment_read_extents(fd, &s->head, &s->extent, err);
    if (r < 0)
        return r;
    s->writing = true;
    (void)TAKE_FD(fd);
    r = segment_open_files(s, path, O_RDWR, err);
    for (int i = 0; r == 0 && i < N_PLACES; i++)
        if (s->file[i].fd >= 0 && s->file[i].fd != s->fd)
            r = segment_file_lock(s->file[i].fd, err);
    return r < 0 ? r : segment_map(s, err);
}

/* Returns 0 with the segment; -ENOENT when the place is empty, emptied now perhaps; -EAGAIN when it
 * changed meanwhile. */
static int continue_in(const char *path, int place, const Manifest *m, Segment **ret, Err *err) {
    _cleanup_free_ char *file = places_path(path, place);
    _cleanup_(segment_closep) Segment *s = segment_new(m);
    if (!file || !s)
        return err_set(err, -ENOMEM, "no memory for a segment");
    int fd = open_locked(file, place, err);
    if (fd < 0)
        return fd;
    Err why = {0};
    int r = continue_with(fd, path, s, &why);
    bool wrong = r == -EBADMSG || r == -ESTALE || r == -EPERM || r == -EINVAL || r == -ENOTSUP;
    if (r < 0 && !wrong)
        return err_set(err, r, "cannot go on with '%s': %s", file, err_text(&why));
    if (r < 0)
        return unlink(file) < 0 && place != PLACE_PUBLIC
                       ? err_set(err, -errno, "cannot remove the old '%s': %s", file,
                                 strerror(errno))
                       : -ENOENT;
    drop_unfinished(s);
    *ret = TAKE_PTR(s);
    return 0;
}

int segment_continue(const char *path, const Manifest *m, Segment **ret, Err *err) {
    enum { ATTEMPTS = 8 }; /* each means that another writer made or removed the file meanwhile */
    int r = -EAGAIN;
    for (int i = 0; i < ATTEMPTS && r == -EAGAIN; i++) {
        r = -ENOENT;
        for (int place = 0; place < N_PLACES && r == -ENOENT; place++)
            r = continue_in(path, place, m, ret, err);
    }
    return r < 0 && r != -ENOENT ? err_prefix(err, r, "segment '%s'", path) : r;
}

static int create(const char *path, const Manifest *m, bool promising, Segment **ret, Err *err) {
    enum { ATTEMPTS = 8 }; /* as above */
    int r = -EEXIST;
    for (int i = 0; i < ATTEMPTS && r == -EEXIST; i++) {
        err_clear(err);
        r = segment_continue(path, m, ret, err);
        if (r != -ENOENT)
            return r;
        r = create_new(path, m, promising, ret, err);
    }
    return r < 0 ? err_prefix(err, r, "segment '%s'", path) : 0;
}

int segment_create(const char *path, const Manifest *m, Segment **ret, Err *err) {
    return create(path, m, !has_memory_policy(), ret, err);
}

int segment_create_taken(const char *path, const Manifest *m, Segment **ret, Err *err) {
    return create(path, m, false, ret, err);
}

static int evict_place(const char *path, int place, Err *err) {
    _cleanup_free_ char *file = places_path(path, place);
    if (!file)
        return err_set(err, -ENOMEM, "no memory for a path");
    _cleanup_close_ int fd = open_locked(file, place, err);
    if (fd < 0)
        return fd == -ENOENT || fd == -EAGAIN ? 0 : fd;
    if (unlink(file) < 0 && errno != ENOENT)
        return err_set(err, -errno, "cannot remove '%s': %s", file, strerror(errno));
    return 0;
}

/* The first file is in the lowest place: readers stop finding the segment before it falls apart. */
int segment_evict(const char *path, Err *err) {
    for (int i = 0; i < N_PLACES; i++) {
        int r = evict_place(path, i, err);
        if (r < 0)
            return err_prefix(err, r, "segment '%s'", path);
    }
    return 0;
}

void segment_evict_rest(const Segment *s, const char *path) {
    assert(s->writing);
    for (int i = 0; i < N_PLACES; i++)
        if (s->file[i].fd < 0)
            (void)evict_place(path, i, NULL); /* being filled by somebody: theirs */
}
