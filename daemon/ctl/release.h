/* release - gives the memory of parked weights back, through who holds it: systemd or
 * preheat-keeper. */
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
    uint64_t n_kept;     /* descriptors in its store, or the keeper's */
    bool keeper;         /* it is the keeper that has them */
    uint64_t since_usec; /* that it does not run, CLOCK_MONOTONIC; 0: never ran */
    uint64_t free_bytes; /* of the card; UINT64_MAX: not known */
} ReleaseState;

typedef enum ReleaseStep {
    RELEASE_NOW,
    RELEASE_NOTHING, /* nothing is parked */
    RELEASE_LATER,   /* not due */
    RELEASE_IN_USE,
} ReleaseStep;

/* What the configuration says of it, for o->idle. */
typedef struct ReleaseRules {
    uint64_t after_usec;   /* 0: never */
    uint64_t floor_bytes;  /* 0: the card is not looked at */
    const char *library;   /* CARD_LIBRARY */
    unsigned device;       /* number of the card where nothing is noted */
    const char *state_dir; /* where it is (park/note.h) */
} ReleaseRules;

/* release_decide - what is to be done now. */
ReleaseStep release_decide(const ReleaseState *s, const ReleaseOptions *o,
        const ReleaseRules *rules, uint64_t now_usec);

/* release_run - needs the rights of `systemctl clean`, or of the keeper's peers.
 *
 * Returns 0; CTL_REFUSED while preheatd runs, unless o->idle; negative errno of the bus. */
int release_run(const ReleaseOptions *o, const ReleaseRules *rules, FILE *out, Err *err);

#endif
