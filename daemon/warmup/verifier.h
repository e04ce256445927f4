/* verifier - threads that compare chunks with their digests while others are read.
 *
 * One owner adds and takes. Only fill uses it. */
#ifndef PREHEAT_WARMUP_VERIFIER_H
#define PREHEAT_WARMUP_VERIFIER_H

#include "store/segment.h"

#include <stdbool.h>

typedef struct Verifier Verifier;

typedef struct Verdict {
    int slot;
    int result; /* of segment_verify() */
    Err err;
} Verdict;

enum { VERIFIER_MAX = 64 }; /* chunks between verifier_add() and verifier_take() */

int verifier_new(Segment *s, int n_threads, Verifier **ret, Err *err);

/* verifier_free - waits for what was added; verdicts not taken are dropped. */
Verifier *verifier_free(Verifier *v);

void verifier_add(Verifier *v, int slot, size_t chunk);

/* verifier_take - a verdict, waiting up to the timeout; false when there was none. */
bool verifier_take(Verifier *v, uint64_t timeout_usec, Verdict *ret);

#endif
