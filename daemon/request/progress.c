#include "request/progress.h"

#include "base/clock.h"
#include "base/macro.h"

static const char *const phase_names[] = {
        [PHASE_QUEUED] = "queued",
        [PHASE_LOADING] = "loading",
        [PHASE_ENCODING_TEXT] = "encoding_text",
        [PHASE_ENCODING_IMAGE] = "encoding_image",
        [PHASE_DENOISING] = "denoising",
        [PHASE_DECODING] = "decoding",
        [PHASE_ENCODING_VIDEO] = "encoding_video",
        [PHASE_DONE] = "done",
};
static_assert(ARRAY_LEN(phase_names) == N_PHASES, "every phase has a name");

const char *phase_name(Phase p) {
    assert((unsigned)p < N_PHASES);
    return phase_names[p];
}

#define SET(field, value) atomic_store_explicit(&p->field, (value), memory_order_relaxed)
#define GET(field) atomic_load_explicit(&p->field, memory_order_relaxed)

void progress_enter(Progress *p, Phase phase, int n_steps) {
    uint64_t t = clock_usec(), since = GET(phase_since_usec);
    if (since > 0)
        (void)atomic_fetch_add_explicit(
                &p->phase_usec[GET(phase)], t - since, memory_order_relaxed);
    SET(phase_since_usec, t);
    SET(step, 0);
    SET(n_steps, n_steps);
    SET(phase, (int)phase);
}
