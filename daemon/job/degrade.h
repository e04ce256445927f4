/* degrade - what a request may get instead while the model is still being loaded.
 *
 * Pure policy: times and requests in, a smaller request out. Any thread. */
#ifndef PREHEAT_JOB_DEGRADE_H
#define PREHEAT_JOB_DEGRADE_H

#include "job/estimate.h"
#include "request/request.h"

enum { DEGRADE_MAX_RUNGS = 8 };

/* What a rung allows at most; 0: as much as is asked for. */
typedef struct DegradeRung {
    int64_t steps, frames, pixels; /* pixels: width * height */
} DegradeRung;

typedef struct DegradePlan {
    double deadline_sec;  /* a request waits no longer than this for its begin; 0: for ever */
    RequestDegrade usual; /* for requests that say nothing */
    DegradeRung rung[DEGRADE_MAX_RUNGS];
    size_t n_rungs;
} DegradePlan;

/* degrade_parse_ladder - "steps:20,frames:49 steps:10,frames:17,pixels:200000", from the best rung
 * to the poorest, into plan->rung. Returns 0; -EINVAL. */
int degrade_parse_ladder(const char *text, DegradePlan *plan, Err *err);

/* degrade_policy - what the request allows, or else what is usual. */
RequestDegrade degrade_policy(const DegradePlan *plan, const Request *r);

/* degrade_is_due - whether a request that would begin after wait_sec (negative: nobody knows) waits
 * too long. */
bool degrade_is_due(const DegradePlan *plan, double wait_sec);

/* degrade_step_down - the best rung that makes good for the wait: done no later than the full
 * request would be that began at the deadline. Where no times are known, the last rung.
 *
 * On success r is smaller and r->degraded tells how. size_multiple: of width and height.
 * Returns 0; -ETIME when no rung is small enough, r being as it was. */
int degrade_step_down(const DegradePlan *plan, double wait_sec, const Estimate *e,
        int64_t size_multiple, Request *r);

#endif
