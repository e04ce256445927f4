/* pool - threads that share one loop at a time.
 *
 * The calling thread works too, so a pool of one thread starts none. Any thread may call
 * pool_for(): the loops of several threads take turns. Loops do not nest. */
#ifndef PREHEAT_BASE_POOL_H
#define PREHEAT_BASE_POOL_H

#include "base/err.h"

#include <stdint.h>

typedef struct Pool Pool;

/* Handles the items begin <= i < end; worker is 0 .. pool_size() - 1, the same for one thread
 * during one loop. */
typedef void PoolFunc(void *context, int64_t begin, int64_t end, int worker);

/* pool_cpus - CPUs that this process may run on, at least 1. */
int pool_cpus(void);

/* pool_new - n_threads in all, the caller's included; 0 for as many as this process may run on.
 *
 * Returns 0 or negative errno of the thread creation; fewer threads than wanted is a failure. */
int pool_new(int n_threads, Pool **ret, Err *err);
Pool *pool_free(Pool *p);
int pool_size(const Pool *p);

/* pool_for - calls func until the items 0 .. n - 1 are handled, in pieces of grain items (the last
 * may be shorter); returns when all are. Pieces are taken by whichever thread is free: func must
 * give the same result whoever handles a piece. */
void pool_for(Pool *p, int64_t n, int64_t grain, PoolFunc *func, void *context);

#endif
