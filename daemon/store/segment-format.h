/* segment-format - the segment file, byte by byte.
 *
 *         0  SegmentHeader
 *      4096  uint32_t state[n_chunks], SEGMENT_WORD_*; chunk numbers are the manifest's
 *   2097152  the manifest's files, each from its segment_offset on, zeros up to the next 2 MiB
 *
 * Little-endian. The header is written before the file gets its name and never again. A state word
 * is a futex: written by the one writer that holds the lock (below) with release order, read with
 * acquire order by everybody. The words differ from each other in at least 12 bits, so no flipped
 * bit turns one into another: any other value counts as bad for readers and as empty for the
 * writer.
 *
 * The writer holds an exclusive OFD lock on byte 0 as long as it lives; readers only ask who has
 * it (F_OFD_GETLK). */
#ifndef PREHEAT_STORE_SEGMENT_FORMAT_H
#define PREHEAT_STORE_SEGMENT_FORMAT_H

#include "base/digest.h"
#include "base/macro.h"

#include <stdint.h>

#define SEGMENT_MAGIC "PREHEATS"
enum { SEGMENT_VERSION = 1, SEGMENT_STATES_AT = 4096 };

typedef struct SegmentHeader {
    char magic[8];          /*  0  "PREHEATS" */
    uint32_t version;       /*  8  SEGMENT_VERSION */
    uint32_t n_chunks;      /* 12 */
    uint64_t segment_bytes; /* 16  as in the manifest; the file may be longer, up to a page */
    Digest manifest;        /* 24  manifest_digest() */
    Digest check;           /* 40  of the 40 bytes before */
} SegmentHeader;            /* 56 */
static_assert(sizeof(SegmentHeader) == 56 && offsetof(SegmentHeader, check) == 40, "layout");

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
