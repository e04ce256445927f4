/* reader - many reads of files under way at once, straight into memory that the caller names.
 *
 * Three kinds: io_uring with registered buffers, threads with pread for kernels and sandboxes that
 * refuse io_uring, and ranges of files on another machine. One owner: all calls from one thread.
 * The memory of a piece must stay until the piece came back. */
#ifndef PREHEAT_WARMUP_READER_H
#define PREHEAT_WARMUP_READER_H

#include "base/err.h"
#include "remote/remote.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum ReaderKind {
    READER_AUTO, /* io_uring where it opens, else threads */
    READER_URING,
    READER_THREADS,
} ReaderKind;

enum { READER_MAX_DEPTH = 1024, READER_MAX_REGIONS = 64 };

/* One read. The reader writes result and uses next; the rest is the caller's. */
typedef struct ReadPiece {
    int fd;
    const char *path;    /* remote: instead of fd, below the source */
    uint64_t file_bytes; /* remote: that the file must have */
    int region;          /* of reader_region(); to and bytes lie in it */
    bool slow;           /* io_uring: have a kernel thread copy, as reads of the page cache block */
    void *to;
    size_t bytes;
    uint64_t offset;
    ssize_t result; /* bytes read or negative errno */
    Err err;        /* remote: why */
    struct ReadPiece *next;
} ReadPiece;

typedef struct Reader Reader;

/* reader_open - at most `depth` pieces will be under way at once.
 *
 * Returns 0; for READER_URING the negative errno that the kernel gave. */
int reader_open(ReaderKind kind, int depth, Reader **ret, Err *err);

/* reader_open_remote - reads from there; the remote stays the caller's, who asks it for nothing
 * else meanwhile. Its pieces come back whole or with a failure that further attempts did not mend.
 */
int reader_open_remote(Remote *remote, int depth, Reader **ret, Err *err);

/* reader_close - nothing may be under way, asserted. */
Reader *reader_close(Reader *r);

const char *reader_name(const Reader *r); /* "io_uring", "threads" or "libcurl" */

/* reader_region - announces the memory that pieces of this region go to, replacing the last
 * announcement; none of its pieces may be under way. Never fails: what cannot be registered with
 * the kernel is read into without, as is a region of 0 bytes. */
void reader_region(Reader *r, int region, void *data, size_t bytes);

/* reader_submit - starts a piece; *p belongs to the reader until reader_wait() returns it. */
void reader_submit(Reader *r, ReadPiece *p);

/* reader_cancel - pieces from elsewhere come back soon, with -ECANCELED; what a disk was asked for
 * cannot be taken back. */
void reader_cancel(Reader *r);

/* reader_wait - the next piece that is done, in any order.
 *
 * Returns 0; READER_TIMEOUT; -EINTR when a signal came. Something must be under way, asserted. */
enum { READER_TIMEOUT = 1 };
int reader_wait(Reader *r, uint64_t timeout_usec, ReadPiece **ret);

#endif
