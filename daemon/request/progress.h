/* progress - how far a request has come, written by the worker while others look on.
 *
 * Each field stands on its own, relaxed order: a reader may see a step of one phase beside the
 * number of steps of the next, and must bear that. */
#ifndef PREHEAT_REQUEST_PROGRESS_H
#define PREHEAT_REQUEST_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum Phase {
    PHASE_QUEUED,
    PHASE_LOADING,
    PHASE_ENCODING_TEXT,
    PHASE_ENCODING_IMAGE,
    PHASE_DENOISING,
    PHASE_DECODING,
    PHASE_ENCODING_VIDEO, /* the frames are out, the file is not complete yet */
    PHASE_DONE,
    N_PHASES,
} Phase;

/* phase_name - as the API calls it, static text. */
const char *phase_name(Phase p);

/* Written by the worker, read by any thread. */
typedef struct Progress {
    _Atomic int phase;         /* Phase */
    _Atomic int step, n_steps; /* of the phase */
    _Atomic int frames_decoded;
    _Atomic bool cancelled; /* set by others; the worker stops within a step, or sooner */
    _Atomic uint64_t phase_usec[N_PHASES]; /* time spent in each, up to the last change of phase */
    _Atomic uint64_t phase_since_usec;     /* clock_usec() of that change; 0: none yet */
} Progress;

/* progress_enter - the next phase begins, with n_steps to do; what passed counts to the one before.
 * The worker only. */
void progress_enter(Progress *p, Phase phase, int n_steps);

#endif
