/* populator - threads that take a segment's huge pages ahead of the reads.
 *
 * Clearing pages takes as long as a fast disk needs to fill them: done first, the disk waits for
 * it; done by whoever reads, each read waits for its own. These threads run through the chunks in
 * the order of first use. No read waits for them: where they are not yet it takes its pages itself.
 * One owner; only fill uses it. */
#ifndef PREHEAT_WARMUP_POPULATOR_H
#define PREHEAT_WARMUP_POPULATOR_H

#include "base/cleanup.h"
#include "store/segment.h"

typedef struct Populator Populator;

/* populator_new - begins with the chunks that are not ready and wholly in huge pages; where there
 * are none, no thread is started.
 *
 * Returns 0; -ENOMEM. Threads that cannot be started are done without. */
int populator_new(const Manifest *m, Segment *s, int n_threads, Populator **ret, Err *err);

/* populator_free - waits for the slices of chunks that are under way, a few milliseconds. */
Populator *populator_free(Populator *p);
DEFINE_CLEANUP(Populator, populator_free)

/* populator_has - the chunk has all its pages, or what kept it from them; true, too, for those that
 * there was nothing to do for. */
bool populator_has(Populator *p, size_t chunk);

#endif
