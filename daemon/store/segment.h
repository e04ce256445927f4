/* segment - a model's weights in hugetlbfs or tmpfs files that outlive the processes using them.
 *
 * One writer (warm-up) fills it chunk by chunk, any number of readers map it read-only and may use
 * a chunk as soon as segment_wait() says so. What is kept between processes is in the files only:
 * after kill -9 of the writer the next one goes on with the chunks that are not ready. Layout and
 * memory order: segment-format.h. A path is the configured one, from which places.h derives where
 * the files may be. A Segment has one owner; segment_state() and segment_wait() may be called from
 * any thread. The manifest must outlive the segment. */
#ifndef PREHEAT_STORE_SEGMENT_H
#define PREHEAT_STORE_SEGMENT_H

#include "base/err.h"
#include "store/manifest.h"
#include "store/places.h"

typedef struct Segment Segment;

typedef enum SegmentState {
    SEGMENT_EMPTY,
    SEGMENT_LOADING,
    SEGMENT_READY, /* verified; stays so as long as the file exists */
    SEGMENT_BAD    /* given up by the writer */
} SegmentState;

/* What holds the bytes. */
typedef enum SegmentBacking { SEGMENT_HUGETLB, SEGMENT_TMPFS } SegmentBacking;

/* segment_continue - goes on with the segment that is there.
 *
 * Files of another manifest, version or size, and what is left of a segment that lost a file, are
 * removed; their readers keep what they mapped. Chunks found loading were left by a dead writer and
 * become empty.
 *
 * Returns 0; -ENOENT when there is none, or none any more; -EBUSY while another writer lives;
 * negative errno. */
int segment_continue(const char *path, const Manifest *m, Segment **ret, Err *err);

/* segment_create - segment_continue(), or else a new one.
 *
 * All memory is taken here, or promised by the kernel (segment_populate()), so that filling cannot
 * run out of it: chunk by chunk in the order of first use, from each place in turn what it has.
 * Files that are being made have no names yet: killed at any moment, nothing is left behind that
 * the next writer would not remove.
 *
 * Returns 0; -EBUSY while another writer lives; -ENOSPC when all places together have too little,
 * saying how much and why; negative errno. */
int segment_create(const char *path, const Manifest *m, Segment **ret, Err *err);

/* segment_create_taken - as segment_create(), but nothing is only promised: for where the kernel
 * does not keep its promise. */
int segment_create_taken(const char *path, const Manifest *m, Segment **ret, Err *err);

/* segment_open - maps a filled or filling segment read-only.
 *
 *   fd    its first file; stays the caller's and open
 *   path  finds its other files; NULL: there are none
 *
 * Returns 0; -ESTALE when it belongs to another manifest or lost a file; -EBADMSG when it is no
 * segment; -EPERM when a file of it is not to be trusted, see segment_check(). */
int segment_open(int fd, const char *path, const Manifest *m, Segment **ret, Err *err);

Segment *segment_close(Segment *s);

/* segment_shares - what each place holds, in their order; returns how many hold something. */
typedef struct SegmentShare {
    int place;
    SegmentBacking backing;
    uint64_t page_bytes; /* of the file system: 2 MiB, 1 GiB, 4 KiB */
    uint64_t bytes;
} SegmentShare;
size_t segment_shares(const Segment *s, SegmentShare ret[static N_PLACES]);

/* segment_extent - the bytes between the header and the end, mapped side by side: a run that is in
 * one file. The first may be empty. */
size_t segment_n_extents(const Segment *s);
void segment_extent(const Segment *s, size_t i, const void **ret_data, uint64_t *ret_bytes);

const void *segment_data(const Segment *s); /* where segment offset 0 is mapped */

/* segment_chunk - the chunk's pages, writable; for the writer only. The chunk has *ret_bytes, room
 * for reads rounded up to whole pages is *ret_room. */
void *segment_chunk(Segment *s, size_t chunk, uint64_t *ret_bytes, uint64_t *ret_room);

/* segment_chunk_is_huge - all of its bytes are in hugetlbfs; for the writer only. */
bool segment_chunk_is_huge(const Segment *s, size_t chunk);

/* segment_populate - takes and clears the huge pages that were promised for a part of the chunk, so
 * that whoever fills it finds them; without it the first touch does. For the writer; any thread.
 *
 *   at, bytes  within the chunk's room, multiples of SEGMENT_PAGE
 *
 * Returns 0; -ENOMEM when the promise is not kept: a limit on the huge pages of a control group. */
int segment_populate(const Segment *s, size_t chunk, uint64_t at, uint64_t bytes);

/* segment_set - the writer's way from one state to the next; wakes all who wait for the chunk.
 *
 * Everything written to the chunk before is seen by whoever sees SEGMENT_READY. */
void segment_set(Segment *s, size_t chunk, SegmentState state);
SegmentState segment_state(const Segment *s, size_t chunk);

/* segment_wait - until the chunk is ready.
 *
 * Returns 0; SEGMENT_TIMEOUT; -EBADMSG when it is bad; -ENOLINK when it is not ready and no writer
 * has been alive for SEGMENT_ALONE_USEC, or none can come because the segment was removed;
 * -ECANCELED. */
enum { SEGMENT_TIMEOUT = 1, SEGMENT_ALONE_USEC = 3000000 /* for a restart of the warm-up */ };
int segment_wait(Segment *s, size_t chunk, uint64_t timeout_usec, Err *err);

/* segment_check_supply - every chunk is ready or may become it.
 *
 * Returns 0; -EBADMSG when one is bad; -EPIPE when one is not ready and no writer is alive. */
int segment_check_supply(const Segment *s, Err *err);

/* segment_cancel - from now on nobody waits: segment_wait() returns what is known, also where it is
 * waiting, within 0.2 s. Any thread. */
void segment_cancel(Segment *s);

/* segment_verify - compares a ready chunk with the manifest's digest, the zeros behind it too.
 *
 * Returns 0; -EBADMSG with file, offset and both digests. */
int segment_verify(const Segment *s, size_t chunk, Err *err);

/* segment_compare - as segment_verify, for who computed the digest of the chunk's bytes while they
 * came in. */
int segment_compare(const Segment *s, size_t chunk, const Digest *found, Err *err);

/* segment_has_writer - true while some process holds the segment open for filling. */
bool segment_has_writer(const Segment *s);

/* segment_evict - removes the files; refuses while a writer lives. Pages return to the system when
 * the last reader unmaps them. Returns 0, also when there are none; -EBUSY; negative errno. */
int segment_evict(const char *path, Err *err);

/* segment_evict_rest - files of this path that are not the segment's; for its writer. */
void segment_evict_rest(const Segment *s, const char *path);

/* segment_check - fd is a segment's file that may be mapped and believed, whatever its manifest: a
 * regular file on hugetlbfs or tmpfs, owned by root or places_owner(path), not writable for others,
 * with a header of this version.
 *
 * Returns 0 for a first file; SEGMENT_FURTHER for another; -EINVAL, -EPERM, -ENOTSUP, -EBADMSG
 * saying what it is instead. */
enum { SEGMENT_FURTHER = 1 };
int segment_check(int fd, const char *path, Err *err);

#endif
