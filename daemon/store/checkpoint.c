#include "store/checkpoint.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "base/str.h"
#include "store/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef struct Range {
    const char *data;
    size_t bytes;
} Range;

struct Checkpoint {
    const Manifest *m;
    CheckpointTier tier;
    Segment *segment; /* CHECKPOINT_SEGMENT only: it has the ranges then */
    size_t n_ranges;
    Range range[]; /* CHECKPOINT_FILES only: one a file */
};

DEFINE_CLEANUP(Checkpoint, checkpoint_free)

static Checkpoint *checkpoint_new(const Manifest *m, CheckpointTier tier, size_t n_ranges) {
    Checkpoint *c = calloc(1, sizeof(*c) + n_ranges * sizeof(c->range[0]));
    if (c) {
        c->m = m;
        c->tier = tier;
        c->n_ranges = n_ranges;
    }
    return c;
}

static int map_file(const ManifestFile *f, int root, Range *ret, Err *err) {
    _cleanup_close_ int fd = openat(root, f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot open '%s': %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->bytes)
        return err_set(err, -ESTALE, "'%s' has %jd bytes, the manifest says %ju", f->path,
                (intmax_t)st.st_size, (uintmax_t)f->bytes);
    void *p = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_set(err, -errno, "cannot map the %ju bytes of '%s': %s", (uintmax_t)f->bytes,
                f->path, strerror(errno));
    *ret = (Range){p, f->bytes};
    Digest found = digest_of(p, f->head_bytes);
    if (!digest_eq(&found, &f->head_digest))
        return err_set(
                err, -ESTALE, "'%s' has another header than when the manifest was made", f->path);
    return 0;
}

int checkpoint_open_files(const Manifest *m, Checkpoint **ret, Err *err) {
    size_t n = manifest_n_files(m);
    const char *root = manifest_root(m);
    _cleanup_(checkpoint_freep) Checkpoint *c = checkpoint_new(m, CHECKPOINT_FILES, n);
    if (!c)
        return err_set(err, -ENOMEM, "no memory for a checkpoint of %zu files", n);
    _cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, -errno, "cannot open the model '%s': %s", root, strerror(errno));
    for (size_t i = 0; i < n; i++) {
        int r = map_file(manifest_file(m, i), fd, &c->range[i], err);
        if (r < 0)
            return err_prefix(err, r, "model '%s'", root);
    }
    *ret = TAKE_PTR(c);
    return 0;
}

int checkpoint_open_segment(
        const Manifest *m, int segment_fd, const char *path, Checkpoint **ret, Err *err) {
    _cleanup_(checkpoint_freep) Checkpoint *c = checkpoint_new(m, CHECKPOINT_SEGMENT, 0);
    if (!c)
        return err_set(err, -ENOMEM, "no memory for a checkpoint");
    int r = segment_open(segment_fd, path, m, &c->segment, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(c);
    return 0;
}

int checkpoint_check_supply(const Checkpoint *c, Err *err) {
    return c->segment ? segment_check_supply(c->segment, err) : 0;
}

Checkpoint *checkpoint_free(Checkpoint *c) {
    if (!c)
        return NULL;
    segment_close(c->segment);
    for (size_t i = 0; i < c->n_ranges; i++)
        if (c->range[i].data)
            (void)munmap((void *)c->range[i].data, c->range[i].bytes); /* our own mapping */
    free(c);
    return NULL;
}

CheckpointTier checkpoint_tier(const Checkpoint *c) {
    return c->tier;
}

int checkpoint_find(const Checkpoint *c, const char *part, const char *name, View *ret, Err *err) {
    const ManifestTensor *t = manifest_find_tensor(c->m, part, name);
    if (!t)
        return err_set(err, -ENOENT, "the model has no tensor '%s' in '%s'", name, part);
    const char *data = c->tier == CHECKPOINT_FILES
                               ? c->range[t->file].data
                               : (const char *)segment_data(c->segment) +
                                         manifest_file(c->m, t->file)->segment_offset;
    *ret = view_make((void *)(data + t->offset), t->dtype, t->rank, t->dim);
    return 0;
}

const char *checkpoint_source(const Checkpoint *c, const char *part, const char *name) {
    const ManifestTensor *t = manifest_find_tensor(c->m, part, name);
    assert(t);
    return manifest_file(c->m, t->file)->path;
}

uint64_t checkpoint_n_nonfinite(const Checkpoint *c, const char *part, const char *name) {
    const ManifestTensor *t = manifest_find_tensor(c->m, part, name);
    assert(t);
    return t->n_nonfinite;
}

int checkpoint_file(
        const Checkpoint *c, const char *path, const char **ret_data, size_t *ret_size, Err *err) {
    for (size_t i = 0; i < manifest_n_smalls(c->m); i++) {
        const ManifestSmall *s = manifest_small(c->m, i);
        if (str_eq(s->path, path)) {
            *ret_data = s->data;
            *ret_size = s->bytes;
            return 0;
        }
    }
    return err_set(err, -ENOENT, "the model has no file '%s'", path);
}

/* From the first element to behind the last, gaps included. */
static uint64_t view_extent(View v) {
    uint64_t last = 0;
    for (int i = 0; i < v.rank; i++) {
        if (v.dim[i] == 0)
            return 0;
        last += (uint64_t)(v.dim[i] - 1) * (uint64_t)v.stride[i];
    }
    return (last + 1) * dtype_bytes(v.dtype);
}

int checkpoint_wait(Checkpoint *c, View v, uint64_t timeout_usec, Err *err) {
    uint64_t extent = view_extent(v), deadline = clock_deadline(timeout_usec);
    if (c->tier == CHECKPOINT_FILES || extent == 0)
        return 0;
    const char *data = segment_data(c->segment);
    assert((const char *)v.data >= data + SEGMENT_PAGE);
    uint64_t at = (uint64_t)((const char *)v.data - data);
    uint64_t end = at + extent;
    while (at < end) {
        size_t chunk = manifest_chunk_at(c->m, at);
        int r = segment_wait(c->segment, chunk, clock_left(deadline), err);
        if (r != 0)
            return r > 0 ? CHECKPOINT_TIMEOUT : r;
        at = manifest_chunk_segment_offset(c->m, chunk) +
             size_align(manifest_chunk(c->m, chunk)->bytes, SEGMENT_PAGE);
    }
    return 0;
}

void checkpoint_cancel(Checkpoint *c) {
    if (c->segment)
        segment_cancel(c->segment);
}

/* By its first, middle and last page: asking for all of them would cost those who find them all. */
static bool is_resident(const char *from, size_t bytes, size_t page) {
    const size_t at[] = {0, bytes / 2 / page * page, bytes - page};
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        unsigned char resident = 0;
        if (mincore((void *)(from + at[i]), page, &resident) < 0 || !(resident & 1))
            return false;
    }
    return true;
}

void checkpoint_will_need(const Checkpoint *c, View v) {
    uint64_t extent = view_extent(v);
    if (c->tier != CHECKPOINT_FILES || extent == 0)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)v.data / page * page;
    size_t bytes = size_align((uintptr_t)v.data + extent - begin, page);
    if (!is_resident((const char *)begin, bytes, page))
        (void)madvise((void *)begin, bytes, MADV_WILLNEED); /* else it is read when it is touched */
}

size_t checkpoint_n_ranges(const Checkpoint *c) {
    return c->segment ? segment_n_extents(c->segment) : c->n_ranges;
}

void checkpoint_range(const Checkpoint *c, size_t i, const void **ret_data, size_t *ret_bytes) {
    if (c->segment) {
        segment_extent(c->segment, i, ret_data, ret_bytes);
        return;
    }
    assert(i < c->n_ranges);
    *ret_data = c->range[i].data;
    *ret_bytes = c->range[i].bytes;
}
