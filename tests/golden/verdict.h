/* verdict - how far found tensors may be from the reference's, and the line that says how far they
 * are. */
#ifndef PREHEAT_GOLDEN_VERDICT_H
#define PREHEAT_GOLDEN_VERDICT_H

#include "backend/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How frames are judged; 0 where they are not. */
typedef struct FrameLimits {
    int max;      /* largest difference of a byte */
    double equal; /* share of bytes that are equal */
    double psnr;  /* dB */
} FrameLimits;

/* Relative L2 errors unless said; 0 where a quantity is not judged. */
typedef struct Limits {
    const char *name;
    double forward;           /* encoder outputs, single forwards of the DiT, VAE outputs */
    double guided;            /* a guided velocity */
    double step;              /* one step of the sampler from the file's own x and velocity */
    double chain;             /* all steps, freely running */
    FrameLimits frames;       /* from given latents */
    FrameLimits chain_frames; /* of the freely running chain */
} Limits;

/* limits_for - by where activations are rounded; exact when a device that would use bf16 was told
 * to compute in f32. */
const Limits *limits_for(const BackendInfo *info);

typedef struct Difference {
    double max_abs, relative; /* the latter of L2 norms; NaN when anything is not finite */
} Difference;

Difference difference_of(const float *found, const float *wanted, size_t n);

typedef struct Verdict {
    int n_checks, n_failed;
} Verdict;

/* verdict_f32 - one line; limit 0 prints without judging. */
void verdict_f32(Verdict *v, const char *name, Difference d, double limit);

/* verdict_steps - n_steps tensors of n values: the line is for the worst of them. */
void verdict_steps(Verdict *v, const char *name, const float *found, const float *wanted,
        int64_t n_steps, size_t n, double limit);

void verdict_ids(Verdict *v, const char *name, const int32_t *found, size_t n_found,
        const int32_t *wanted, size_t n_wanted);

void verdict_bytes(Verdict *v, const char *name, const uint8_t *found, const uint8_t *wanted,
        size_t n, const FrameLimits *limits);

/* verdict_failed - something could not even be computed. */
void verdict_failed(Verdict *v, const char *name, const char *why);

#endif
