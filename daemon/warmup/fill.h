/* fill - brings every chunk of a segment from the files, here or elsewhere, to SEGMENT_READY.
 *
 * Reads with many requests under way, past the page cache unless a chunk is in it, straight into
 * the segment's pages; threads of its own compare a chunk's digest while the next chunks are read.
 * A chunk is published only after that. Whatever ends the filling, ready chunks stay ready and no
 * chunk is left loading. */
#ifndef PREHEAT_WARMUP_FILL_H
#define PREHEAT_WARMUP_FILL_H

#include "store/segment.h"
#include "warmup/reader.h"

#include <stdatomic.h>

typedef struct FillProgress {
    uint64_t ready_bytes, total_bytes; /* of the model's files */
    uint64_t read_bytes;               /* by this filling */
    uint64_t elapsed_usec;
    int ending;           /* 0, or the code to end with once all reads came back */
    bool reads_under_way; /* a local disk's cannot be taken back, and may never come */
} FillProgress;

/* Called by the thread that fills, at least every FILL_TICK while it runs. */
typedef void FillProgressFunc(void *context, const FillProgress *p);
#define FILL_TICK_USEC ((uint64_t)200000)

typedef struct FillOptions {
    ReaderKind kind;
    Remote *remote;            /* the files are there and not here; NULL: here. Borrowed */
    int queue_depth;           /* reads under way, 1 to READER_MAX_DEPTH; 0: 32 */
    uint64_t read_size;        /* of one read, multiple of 4096; 0: 2 MiB */
    int n_threads;             /* that verify; 0: one for each CPU, at most 8 */
    int retries;               /* of one chunk after its first failure */
    uint64_t retry_delay_usec; /* before the first retry, doubled for each further one */
    uint64_t timeout_usec;     /* for all; USEC_INFINITY: none */
    const atomic_bool *stop;   /* set from a signal handler; may be NULL */
    FillProgressFunc *progress;
    void *context;
} FillOptions;

typedef struct FillReport {
    const char *reader;    /* reader_name() */
    uint64_t read_bytes;   /* from files, retries included */
    uint64_t cached_bytes; /* of those, taken from the page cache */
    size_t n_chunks, n_ready;
    size_t n_found_ready;   /* before reading, verified again */
    size_t n_found_damaged; /* ready before, but no longer of the right digest */
    size_t n_retries;
    bool promise_broken; /* huge pages that were promised were not to be had: ENOMEM */
    size_t bad_chunk;    /* the first that was given up, SIZE_MAX: none */
    uint64_t elapsed_usec;
} FillReport;

/* fill_segment - as above; *report is written in every case.
 *
 * Returns 0 when all chunks are ready; -ECANCELED when told to stop; -ETIMEDOUT; -EBADMSG or the
 * errno of reading when a chunk was given up after all retries (it is then SEGMENT_BAD, the others
 * were still tried), the sentence naming file, offset and what was wrong; -EINVAL when the manifest
 * has no digests. */
int fill_segment(const Manifest *m, Segment *s, const FillOptions *o, FillReport *report, Err *err);

#endif
