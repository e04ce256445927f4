/* verifier - threads that compute chunks' digests while they are read, and compare them at the end.
 *
 * One owner adds and takes. Only fill uses it. */
#ifndef PREHEAT_WARMUP_VERIFIER_H
#define PREHEAT_WARMUP_VERIFIER_H

#include "store/segment.h"

#include <stdbool.h>

typedef struct Verifier Verifier;

typedef struct Verdict {
    int slot;
    int result; /* of segment_compare(); -ECANCELED after verifier_cancel() */
    Err err;
} Verdict;

enum { VERIFIER_MAX = 64 }; /* slots */

/* verifier_new - returns 0; -ENOMEM; -EAGAIN when not even one thread can be started, where fewer
 * than n_threads will do. */
int verifier_new(Segment *s, int n_threads, Verifier **ret, Err *err);

/* verifier_free - every slot's verdict must have been taken, asserted. */
Verifier *verifier_free(Verifier *v);

/* verifier_begin - the chunk that will come into the slot; its last verdict was taken.
 * verifier_feed - the chunk's first `bytes` bytes are in memory and stay as they are.
 * verifier_cancel - no more will come.
 *
 * A verdict follows when all bytes were fed, or after a cancel. */
void verifier_begin(Verifier *v, int slot, size_t chunk);
void verifier_feed(Verifier *v, int slot, uint64_t bytes);
void verifier_cancel(Verifier *v, int slot);

/* verifier_take - a verdict, waiting up to the timeout; false when there was none. */
bool verifier_take(Verifier *v, uint64_t timeout_usec, Verdict *ret);

#endif
