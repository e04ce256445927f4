/* segment-format - a segment's files, byte by byte.
 *
 * A segment is one range of bytes, laid out as the manifest says, in one file or in several on
 * different file systems: huge pages for what is used first, shared memory for what they did not
 * suffice for. A byte has the same offset in its file as in the segment; where a file does not hold
 * the segment it is a hole. The file in the lowest place is the first one, it alone has states and
 * extents:
 *
 *         0  SegmentHeader, in every file
 *      4096  uint32_t state[n_chunks], SEGMENT_WORD_*; chunk numbers are the manifest's
 *   1048576  SegmentExtent extent[n_extents], ascending, from byte 0 on without gaps
 *   2097152  the manifest's files, each from its segment_offset on, zeros up to the next 2 MiB
 *
 * Little-endian. Headers and extents are written before the files get their names and never again;
 * the first file gets its name last and loses it first. A state word is a futex: written by the one
 * writer that holds the lock (below) with release order, read with acquire order by everybody. The
 * words differ from each other in at least 12 bits, so no flipped bit turns one into another: any
 * other value counts as bad for readers and as empty for the writer.
 *
 * The writer holds an exclusive OFD lock on byte 0 of every file as long as it lives; readers only
 * ask who has the first file's (F_OFD_GETLK). */
#ifndef PREHEAT_STORE_SEGMENT_FORMAT_H
#define PREHEAT_STORE_SEGMENT_FORMAT_H

#include "base/digest.h"
#include "base/macro.h"

#include <stdint.h>

#define SEGMENT_MAGIC "PREHEATS"
enum {
    SEGMENT_VERSION = 2,
    SEGMENT_STATES_AT = 4096,
    SEGMENT_EXTENTS_AT = 1024 * 1024,
    SEGMENT_FILES_AT = 2 * 1024 * 1024,
};

typedef struct SegmentHeader {
    char magic[8];          /*  0  "PREHEATS" */
    uint32_t version;       /*  8  SEGMENT_VERSION */
    uint32_t n_chunks;      /* 12  up to SEGMENT_MAX_CHUNKS */
    uint64_t segment_bytes; /* 16  as in the manifest */
    Digest manifest;        /* 24  manifest_digest() */
    uint8_t id[16];         /* 40  random, the same in all files of a segment */
    uint32_t place;         /* 56  of this file, as places.h counts */
    uint32_t first;         /* 60  place of the first file */
    uint32_t n_extents;     /* 64  up to SEGMENT_MAX_EXTENTS */
    uint32_t zero;          /* 68 */
    Digest extents;         /* 72  of the extents */
    Digest check;           /* 88  of the 88 bytes before */
} SegmentHeader;            /* 104 */

typedef struct SegmentExtent {
    uint64_t begin; /*  0  multiple of 2 MiB and of the file's pages */
    uint64_t bytes; /*  8  likewise; the last one ends at segment_bytes or in the page behind */
    uint32_t place; /* 16  of the file that holds it */
    uint32_t zero;  /* 20 */
} SegmentExtent;    /* 24 */

enum {
    SEGMENT_MAX_CHUNKS = (SEGMENT_EXTENTS_AT - SEGMENT_STATES_AT) / sizeof(uint32_t),
    SEGMENT_MAX_EXTENTS = (SEGMENT_FILES_AT - SEGMENT_EXTENTS_AT) / sizeof(SegmentExtent),
};

static_assert(sizeof(SegmentHeader) == 104 && offsetof(SegmentHeader, id) == 40 &&
                      offsetof(SegmentHeader, check) == 88,
        "layout");
static_assert(sizeof(SegmentExtent) == 24, "layout");

#define SEGMENT_WORD_EMPTY UINT32_C(0x00000000)
#define SEGMENT_WORD_LOADING UINT32_C(0x5a5a00ff)
#define SEGMENT_WORD_READY UINT32_C(0xa53cf00f)
#define SEGMENT_WORD_BAD UINT32_C(0x0ff0a5a5)
#define SEGMENT_FAR_APART(a, b) (__builtin_popcount((a) ^ (b)) >= 12)
static_assert(SEGMENT_FAR_APART(SEGMENT_WORD_EMPTY, SEGMENT_WORD_LOADING) &&
                      SEGMENT_FAR_APART(SEGMENT_WORD_EMPTY, SEGMENT_WORD_READY) &&
                      SEGMENT_FAR_APART(SEGMENT_WORD_EMPTY, SEGMENT_WORD_BAD) &&
                      SEGMENT_FAR_APART(SEGMENT_WORD_LOADING, SEGMENT_WORD_READY) &&
                      SEGMENT_FAR_APART(SEGMENT_WORD_LOADING, SEGMENT_WORD_BAD) &&
                      SEGMENT_FAR_APART(SEGMENT_WORD_READY, SEGMENT_WORD_BAD),
        "one flipped bit never makes another state");

#endif
