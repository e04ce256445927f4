#include "job/estimate.h"

/* Weight of the newest job in the average: the last five or so count. */
#define LEARNING_RATE 0.3

/* What a phase's time is proportional to. */
static double work_of(Phase p, const Request *r) {
    double pixels = (double)r->width * (double)r->height * (double)r->num_frames;
    switch (p) {
    case PHASE_LOADING:
    case PHASE_ENCODING_TEXT:
        return 1;
    case PHASE_ENCODING_IMAGE:
        return r->image_bytes ? (double)r->width * (double)r->height : 0;
    case PHASE_DENOISING:
        return pixels * (double)r->steps * (r->guidance_scale > 1 ? 2 : 1);
    case PHASE_DECODING:
    case PHASE_ENCODING_VIDEO:
        return pixels;
    case PHASE_QUEUED:
    case PHASE_DONE:
    case N_PHASES:
        break;
    }
    return 0;
}

void estimate_learn(Estimate *e, const Request *r, const uint64_t phase_usec[N_PHASES]) {
    for (int p = 0; p < N_PHASES; p++) {
        double work = work_of((Phase)p, r), *average = &e->usec_per_unit[p];
        if (work <= 0 || phase_usec[p] == 0)
            continue;
        double found = (double)phase_usec[p] / work;
        *average = *average > 0 ? *average + LEARNING_RATE * (found - *average) : found;
    }
}

static double expected_usec(const Estimate *e, const Request *r, Phase p) {
    return p == PHASE_LOADING ? 0 : e->usec_per_unit[p] * work_of(p, r);
}

double estimate_total(const Estimate *e, const Request *r) {
    if (e->usec_per_unit[PHASE_DENOISING] <= 0)
        return -1;
    double usec = 0;
    for (int p = 0; p < N_PHASES; p++)
        usec += expected_usec(e, r, (Phase)p);
    return usec / 1e6;
}

static int peek(const _Atomic int *v) {
    return atomic_load_explicit(v, memory_order_relaxed);
}

static double within(double v) {
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* 0..1 of the phase that runs. */
static double phase_done(const Request *r, const Progress *p) {
    int step = peek(&p->step), n = peek(&p->n_steps);
    if (peek(&p->phase) == PHASE_DECODING)
        return within((double)peek(&p->frames_decoded) / (double)r->num_frames);
    return n > 0 ? within((double)step / n) : 0;
}

double estimate_left(
        const Estimate *e, const Request *r, const Progress *p, uint64_t elapsed_usec) {
    Phase now = (Phase)peek(&p->phase);
    double done = phase_done(r, p);
    if (estimate_total(e, r) >= 0) {
        double usec = now == PHASE_LOADING ? e->usec_per_unit[PHASE_LOADING] : 0;
        for (int i = (int)now; i < N_PHASES; i++)
            usec += expected_usec(e, r, (Phase)i) * (i == (int)now ? 1 - done : 1);
        return usec / 1e6;
    }
    /* The first job ever: steps take equally long, the rest is small beside them. */
    if (now == PHASE_DENOISING && done > 0)
        return (double)elapsed_usec * (1 - done) / done / 1e6;
    return -1;
}

int estimate_percent(const Estimate *e, const Request *r, const Progress *p) {
    /* Until times are known; the shares of a 720p clip of 50 steps. */
    static const double usual[N_PHASES] = {[PHASE_ENCODING_TEXT] = 1,
            [PHASE_ENCODING_IMAGE] = 1,
            [PHASE_DENOISING] = 88,
            [PHASE_DECODING] = 8,
            [PHASE_ENCODING_VIDEO] = 2};
    bool known = estimate_total(e, r) >= 0;
    Phase now = (Phase)peek(&p->phase);
    double before = 0, total = 0;
    for (int i = 0; i < N_PHASES; i++) {
        double share = known ? expected_usec(e, r, (Phase)i) : usual[i];
        total += share;
        if (i < (int)now)
            before += share;
        else if (i == (int)now)
            before += share * phase_done(r, p);
    }
    return total > 0 ? (int)(99 * within(before / total)) : 0;
}
