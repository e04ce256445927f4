/* dit - the diffusion transformer: noisy latents, a timestep a token and a prompt to a velocity.
 *
 * The residual stream is f32, everything between a norm and the next residual addition is in the
 * backend's activation dtype. Belongs to the worker thread.
 *
 * Source: diffusers transformer_wan.py, WanTransformer3DModel. */
#ifndef PREHEAT_MODEL_DIT_H
#define PREHEAT_MODEL_DIT_H

#include "model/dims.h"
#include "model/observer.h"
#include "model/weights.h"

typedef struct Dit Dit;

/* dit_new - checks and binds the tensors of "transformer"; loads nothing. */
int dit_new(Checkpoint *c, const DitDims *dims, Dit **ret, Err *err);
Dit *dit_free(Dit *d);
Weights *dit_weights(const Dit *d);

/* dit_check_shape - whether latents [_, t, h, w] can be run; -EINVAL says what is wanted. */
int dit_check_shape(const DitDims *dims, int64_t t, int64_t h, int64_t w, Err *err);
int64_t dit_n_tokens(const DitDims *dims, int64_t t, int64_t h, int64_t w);

/* What a prompt gives to every step. The reference attends to 512 rows; beyond the prompt's n they
 * are projections of zeros, all equal, so one key with ln(512 - n) added to its score stands for
 * them. */
typedef struct DitContext {
    View text; /* [keys, dim] act: projected rows */
    View kv;   /* [n_layers, 2, keys, dim] act: cross-attention keys, normed, and values */
    float last_key_bias; /* of the row that stands for the padding */
    bool cached;         /* kv is filled: by the first dit_forward() */
} DitContext;

/* dit_context - from the encoder's rows; takes temporaries that live as long as *ret is used.
 *
 *   rows  [n, text_dim]  F32 or act; 1 <= n <= TEXT_ROWS, asserted
 *
 * Keys and values of a block are computed when the block first runs, so that a prompt needs no
 * weights before their turn. The observer sees "dit.text", [keys, dim]. */
void dit_context(Stream *s, Dit *d, View rows, DitContext *ret, const Observer *observer);

/* dit_rope - the rotary table for latents [_, t, h, w], as a temporary: [tokens, head_dim / 2, 2].
 */
View dit_rope(Stream *s, const Dit *d, int64_t t, int64_t h, int64_t w);

/* Consecutive tokens of one timestep. Text-to-video is one run; with a given first frame its tokens
 * are a run at 0. */
typedef struct DitRun {
    int64_t n_tokens;
    double timestep; /* 0 .. 1000 */
} DitRun;

enum { DIT_MAX_CONTEXTS = 2 };

typedef struct DitForward {
    View x;    /* [in_channels, t, h, w] F32 */
    View rope; /* dit_rope() of these extents */
    const DitRun *runs;
    int64_t n_runs; /* all tokens in order, asserted */
    int n_contexts;
    DitContext *context[DIT_MAX_CONTEXTS];
    View y[DIT_MAX_CONTEXTS]; /* [out_channels, t, h, w] F32, a velocity for each context */
    const Observer *observer; /* of the first context */
} DitForward;

/* dit_forward - the contexts go through each block together: its weights are needed once, its
 * modulation is folded once, and what comes before the first cross-attention is computed once.
 *
 * The observer sees "dit.patch_embedding" [tokens, dim], "dit.temb" [n_runs, dim],
 * "dit.timestep_proj" [n_runs, 6 dim] and "dit.block" i [tokens, dim]. */
void dit_forward(Stream *s, Dit *d, const DitForward *f);

#endif
