/* release - gives the memory of parked weights back, through systemd, which holds them. */
#ifndef PREHEAT_CTL_RELEASE_H
#define PREHEAT_CTL_RELEASE_H

#include "ctl/options.h"

#include <stdint.h>

typedef struct ReleaseOptions {
    bool idle; /* for preheat-release.timer: only what is due, and the timer is stopped after that
                */
} ReleaseOptions;

extern const OptionTable release_table;

/* What is known of preheatd.service when it is decided. */
typedef struct ReleaseState {
    bool runs;           /* or starts, or stops */
    uint64_t n_kept;     /* descriptors in its store */
    uint64_t since_usec; /* that it does not run, CLOCK_MONOTONIC; 0: never ran */
} ReleaseState;

typedef enum ReleaseStep {
    RELEASE_NOW,
    RELEASE_NOTHING, /* nothing is parked */
    RELEASE_LATER,   /* not due */
    RELEASE_IN_USE,
} ReleaseStep;

/* release_decide - what is to be done now. after_usec: [backend] park_release, for o->idle; 0:
 * never. */
ReleaseStep release_decide(
        const ReleaseState *s, const ReleaseOptions *o, uint64_t after_usec, uint64_t now_usec);

/* release_run - needs the rights of `systemctl clean`.
 *
 * Returns 0; CTL_REFUSED while preheatd runs, unless o->idle; negative errno of the bus. */
int release_run(const ReleaseOptions *o, uint64_t after_usec, FILE *out, Err *err);

#endif
