/* estimate - how long jobs take, learned from those that are done.
 *
 * For each phase the time per unit of work, as a moving average: denoising counts pixels times
 * steps times guidance passes, decoding and encoding count pixels. Attention grows faster than the
 * number of pixels, so the guess is good for sizes like the last ones only. One caller at a time.
 */
#ifndef PREHEAT_JOB_ESTIMATE_H
#define PREHEAT_JOB_ESTIMATE_H

#include "job/job.h"

typedef struct Estimate {
    double usec_per_unit[N_PHASES]; /* 0: not known */
} Estimate;

/* estimate_learn - a completed job's times. */
void estimate_learn(Estimate *e, const Request *r, const uint64_t phase_usec[N_PHASES]);

/* estimate_total - seconds for the whole of a job, loading not counted; negative: not known. */
double estimate_total(const Estimate *e, const Request *r);

/* estimate_left - seconds that a running job still needs; elapsed_usec since it began. */
double estimate_left(const Estimate *e, const Request *r, const Progress *p, uint64_t elapsed_usec);

/* estimate_percent - how much of a running job is done, 0..99. */
int estimate_percent(const Estimate *e, const Request *r, const Progress *p);

#endif
