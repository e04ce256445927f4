/* idle - tells when nobody has needed the service for a while.
 *
 * Work holds it (a queued or running job, an open connection that asked for something); with no
 * holder left the time runs, and at its end func is called once. Health and metrics requests do
 * not hold. Main thread only. */
#ifndef PREHEAT_SERVICE_IDLE_H
#define PREHEAT_SERVICE_IDLE_H

#include "service/loop.h"

typedef struct Idle Idle;

/* idle_new - the time begins to run at once. timeout_usec 0: never idle. */
int idle_new(Loop *l, uint64_t timeout_usec, LoopFunc *func, void *context, Idle **ret, Err *err);
Idle *idle_free(Idle *i);

void idle_hold(Idle *i);
void idle_release(Idle *i); /* asserted: was held */

/* idle_touch - the time starts anew, for something that happened and is over. Also what func calls
 * to be asked again later. */
void idle_touch(Idle *i);

#endif
