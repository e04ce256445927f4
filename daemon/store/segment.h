/* segment - a model's weights in one hugetlbfs or tmpfs file that outlives the processes using it.
 *
 * One writer (warm-up) fills it chunk by chunk, any number of readers map it read-only and may use
 * a chunk as soon as segment_wait() says so. What is kept between processes is in the file only:
 * after kill -9 of the writer the next one goes on with the chunks that are not ready. Layout and
 * memory order: segment-format.h. A Segment has one owner; segment_state() and segment_wait() may
 * be called from any thread. The manifest must outlive the segment. */
#ifndef PREHEAT_STORE_SEGMENT_H
#define PREHEAT_STORE_SEGMENT_H

#include "base/err.h"
#include "store/manifest.h"

typedef struct Segment Segment;

typedef enum SegmentState {
    SEGMENT_EMPTY,
    SEGMENT_LOADING,
    SEGMENT_READY, /* verified; stays so as long as the file exists */
    SEGMENT_BAD    /* given up by the writer */
} SegmentState;

/* What holds the bytes. */
typedef enum SegmentBacking { SEGMENT_HUGETLB, SEGMENT_TMPFS } SegmentBacking;

/* segment_create - opens the file at path for filling, makes it when there is none.
 *
 * A file of another manifest, version or size is removed and made anew; its readers keep what they
 * mapped. All pages are allocated here, so that filling cannot run out of them. Chunks found
 * loading were left by a dead writer and become empty. A file that is being made has no name yet:
 * killed at any moment, nothing is left behind.
 *
 * Returns 0; -EBUSY while another writer lives; -ENOSPC when the pages cannot be had, the sentence
 * naming how many are needed; -ENOTSUP on another file system; negative errno. */
int segment_create(const char *path, const Manifest *m, Segment **ret, Err *err);

/* segment_open - maps a filled or filling segment read-only; fd stays the caller's and open.
 *
 * Returns 0; -ESTALE when it belongs to another manifest; -EBADMSG when it is no segment. */
int segment_open(int fd, const Manifest *m, Segment **ret, Err *err);

Segment *segment_close(Segment *s);

SegmentBacking segment_backing(const Segment *s);
uint64_t segment_page_bytes(const Segment *s); /* of the file system: 2 MiB, 1 GiB, 4 KiB */
const void *segment_data(const Segment *s);    /* where segment offset 0 is mapped */

/* segment_chunk - the chunk's pages, writable; for the writer only. The chunk has *ret_bytes, room
 * for reads rounded up to whole pages is *ret_room. */
void *segment_chunk(Segment *s, size_t chunk, uint64_t *ret_bytes, uint64_t *ret_room);

/* segment_set - the writer's way from one state to the next; wakes all who wait for the chunk.
 *
 * Everything written to the chunk before is seen by whoever sees SEGMENT_READY. */
void segment_set(Segment *s, size_t chunk, SegmentState state);
SegmentState segment_state(const Segment *s, size_t chunk);

/* segment_wait - until the chunk is ready.
 *
 * Returns 0; SEGMENT_TIMEOUT; -EBADMSG when it is bad; -EPIPE when it is not ready and no writer
 * is alive (a new one may come: calling again is right). */
enum { SEGMENT_TIMEOUT = 1 };
int segment_wait(Segment *s, size_t chunk, uint64_t timeout_usec, Err *err);

/* segment_verify - compares a ready chunk with the manifest's digest, the zeros behind it too.
 *
 * Returns 0; -EBADMSG with file, offset and both digests. */
int segment_verify(const Segment *s, size_t chunk, Err *err);

/* segment_compare - as segment_verify, for who computed the digest of the chunk's bytes while they
 * came in. */
int segment_compare(const Segment *s, size_t chunk, const Digest *found, Err *err);

/* segment_has_writer - true while some process holds the segment open for filling. */
bool segment_has_writer(const Segment *s);

/* segment_evict - removes the file; refuses while a writer lives. Pages return to the system when
 * the last reader unmaps them. Returns 0, also when there is none; -EBUSY; negative errno. */
int segment_evict(const char *path, Err *err);

/* segment_check - fd is a segment that may be mapped and believed, whatever its manifest: a regular
 * file on hugetlbfs or tmpfs, owned by root or this user, not writable for others, with a header of
 * this version.
 *
 * Returns 0; -EINVAL, -EPERM, -ENOTSUP, -EBADMSG saying what it is instead. */
int segment_check(int fd, Err *err);

#endif
