/* guidance - the velocity that a step follows: with and without the prompt, and with a given first
 * frame.
 *
 * Source: diffusers pipeline_wan.py and pipeline_wan_i2v.py, the denoising loops with
 * expand_timesteps. */
#ifndef PREHEAT_MODEL_GUIDANCE_H
#define PREHEAT_MODEL_GUIDANCE_H

#include "model/dit.h"

typedef struct Guidance {
    Dit *dit;
    View rope; /* dit_rope() of the latents' extents */
    DitContext *prompt;
    DitContext *negative; /* used when scale > 1 */
    double scale;         /* v = v_negative + scale (v_prompt - v_negative) */
    View first;           /* [c, 1, h, w] F32: normalised latents of a given first frame, or null */
} Guidance;

/* guidance_velocity - v at x, for every token timestep t, or 0 where the first frame is given.
 *
 *   x, v  [c, t, h, w] F32; x is not changed: the given frame is put into a copy */
void guidance_velocity(
        Stream *s, const Guidance *g, View v, View x, double timestep, const Observer *observer);

/* guidance_finish - puts the given first frame into the latents after the last step. */
void guidance_finish(Stream *s, const Guidance *g, View x);

#endif
