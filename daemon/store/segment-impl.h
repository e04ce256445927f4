/* segment-impl - a segment's inside, and what its reader and its writer both need of its files. */
#ifndef PREHEAT_STORE_SEGMENT_IMPL_H
#define PREHEAT_STORE_SEGMENT_IMPL_H

#include "base/cleanup.h"
#include "store/places.h"
#include "store/segment-format.h"
#include "store/segment.h"

#include <stdatomic.h>

static_assert(SEGMENT_FILES_AT == SEGMENT_PAGE, "states and extents end before the first file");

typedef struct SegmentFile {
    int fd; /* -1: the segment has none in this place, or it is mapped and closed */
    SegmentBacking backing;
    uint64_t page_bytes; /* at least 4096 */
} SegmentFile;

/* Owner: whoever opened it. The mapping is shared with other processes; only the words at
 * SEGMENT_STATES_AT change after the first file got its name. */
struct Segment {
    const Manifest *m;
    SegmentHeader head; /* of the first file */
    SegmentExtent *extent;
    SegmentFile file[N_PLACES];
    bool writing;   /* descriptors are ours, locked, and the mapping is writable */
    int fd;         /* of the first file; readers: borrowed */
    char *map;      /* segment offset 0 */
    void *reserved; /* the addresses that map lies in */
    size_t reserved_bytes;
    atomic_bool cancelled; /* relaxed: a hint to stop waiting */
};

DEFINE_CLEANUP(Segment, segment_close)

/* segment_new - without files; NULL when out of memory. */
Segment *segment_new(const Manifest *m);

/* segment_file_examine - what is behind f->fd; -ENOTSUP unless hugetlbfs or tmpfs. */
int segment_file_examine(SegmentFile *f, Err *err);

/* segment_file_lock - takes the writer's lock; -EBUSY when another has it. */
int segment_file_lock(int fd, Err *err);
bool segment_file_is_locked(int fd);

/* segment_file_header - a header that is right in itself, the file long enough to be what it says.
 */
int segment_file_header(int fd, SegmentHeader *ret, Err *err);

/* segment_seal - writes the header's check, and the digest of the extents, [h->n_extents]. */
void segment_seal(SegmentHeader *h, const SegmentExtent *extent);

/* segment_read_extents - the first file's extents on the heap: complete, and of places that there
 * are. */
int segment_read_extents(int fd, const SegmentHeader *h, SegmentExtent **ret, Err *err);

/* segment_check_manifest - -ESTALE when the header is of another manifest. */
int segment_check_manifest(const SegmentHeader *h, const Manifest *m, Err *err);

/* segment_open_files - s->file of every place that the extents name, from s->head and s->extent;
 * the first file is s->fd. */
int segment_open_files(Segment *s, const char *path, int flags, Err *err);

/* segment_map - all extents side by side; s->file must be open. */
int segment_map(Segment *s, Err *err);

#endif
