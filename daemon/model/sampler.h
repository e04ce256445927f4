/* sampler - from noise to latents: which noise levels a run visits and how a velocity moves x.
 *
 * Scalars are computed in double from the f32 noise levels that the reference works with; the
 * latents move in f32. One sampler serves one run; it belongs to the worker thread.
 *
 * Source: diffusers scheduling_unipc_multistep.py (order 2, bh2, x0 prediction) and
 * scheduling_flow_match_euler_discrete.py. */
#ifndef PREHEAT_MODEL_SAMPLER_H
#define PREHEAT_MODEL_SAMPLER_H

#include "backend/ops.h"
#include "model/dims.h"

typedef struct Sampler Sampler;

/* Which noise levels: those of the sampler's own diffusers class (Euler's are shifted twice), or
 * the ones of the official UniPC, with either sampler. They differ by up to 4e-3. */
typedef enum SigmaGrid { SIGMAS_DIFFUSERS, SIGMAS_OFFICIAL } SigmaGrid;

enum { SAMPLER_MAX_STEPS = 1000 };

typedef struct SamplerOptions {
    SamplerKind kind;
    SigmaGrid grid;
    int64_t n_steps; /* 1 .. SAMPLER_MAX_STEPS */
    double shift;    /* 0.01 .. 100 */
    int64_t n_train; /* of the scheduler's configuration: 1000 */
} SamplerOptions;

/* sampler_new - returns 0; -EINVAL for a step count or shift out of range; -ENOMEM. */
int sampler_new(const SamplerOptions *options, Sampler **ret, Err *err);
Sampler *sampler_free(Sampler *p);

/* sampler_timestep - what the model is told at step i, 0 <= i < n_steps. */
double sampler_timestep(const Sampler *p, int64_t i);

/* sampler_sigma - the noise level before step i, 0 <= i <= n_steps; the last is 0. */
double sampler_sigma(const Sampler *p, int64_t i);

/* sampler_begin - starts a run on latents shaped like x; takes temporaries that live as long as the
 * run, four times x for UniPC, none for Euler. */
void sampler_begin(Sampler *p, Stream *s, View x);

/* sampler_step - x of step i becomes x of step i + 1.
 *
 *   x  [c, t, h, w]  F32, as given to sampler_begin()
 *   v  as x: the velocity at x and sampler_timestep(i)
 *
 * Steps are taken in order from 0, asserted. */
void sampler_step(Sampler *p, Stream *s, int64_t i, View x, View v);

#endif
