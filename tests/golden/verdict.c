#include "verdict.h"

#include "base/macro.h"
#include "base/str.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* f32 on the host: rounding alone was measured, between another machine's CPU and the GPU that made
 * the files: 2.5e-6 for a forward, 8.9e-6 for a guided velocity, 1 of 255 in frames. The limits are
 * four to six times that; the chain's leaves room for 50 steps that multiply it.
 *
 * f32 on a device: its sums have other orders and its functions other last bits, hence tenfold.
 *
 * bf16: a value is rounded by up to 2^-9 = 2e-3; the errors of some hundred roundings in a row,
 * most of them smaller than the residual stream they are added to, reach 3e-2. Guidance of scale g
 * multiplies by up to 2 g - 1 and is not judged beyond g = 5. The chain is judged by what a viewer
 * sees of it.
 *
 * The chain's PSNR in f32: latents off by 1e-3 of a norm near 1 move pixels by about 0.13 of 255,
 * which flips as many roundings: a mean square error near 0.1, 58 dB; 50 dB allow the decoder a
 * gain of 2.5. */
/* clang-format off */
static const Limits host_f32 = {
    .name = "f32",
    .forward = 1e-5, .guided = 5e-5, .step = 5e-5, .chain = 1e-3,
    .frames = {.max = 1, .equal = 0.995}, .chain_frames = {.psnr = 50},
};
static const Limits device_f32 = {
    .name = "f32 on a device",
    .forward = 1e-4, .guided = 1e-4, .step = 5e-5, .chain = 1e-3,
    .frames = {.max = 1, .equal = 0.995}, .chain_frames = {.psnr = 50},
};
static const Limits device_bf16 = {
    .name = "bf16",
    .forward = 3e-2, .guided = 9 * 3e-2, .step = 5e-5,
    .frames = {.psnr = 40}, .chain_frames = {.psnr = 35},
};
/* clang-format on */

const Limits *limits_for(const BackendInfo *info) {
    if (info->activation != DTYPE_F32)
        return &device_bf16;
    return str_eq(info->name, "cpu") ? &host_f32 : &device_f32;
}

Difference difference_of(const float *found, const float *wanted, size_t n) {
    double max = 0, square = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)found[i] - (double)wanted[i];
        square += d * d; /* NaN stays */
        norm += (double)wanted[i] * (double)wanted[i];
        max = fmax(max, fabs(d));
    }
    double relative = square == 0 ? 0 : sqrt(square / norm);
    return (Difference){max, isfinite(relative) ? relative : (double)NAN};
}

static bool count(Verdict *v, bool holds) {
    v->n_checks++;
    v->n_failed += !holds;
    return holds;
}

void verdict_f32(Verdict *v, const char *name, Difference d, double limit) {
    bool holds = limit == 0 ? !isnan(d.relative) : d.relative <= limit;
    (void)printf("%s  %-34s max %8.2e  rel %8.2e  ", count(v, holds) ? "ok  " : "FAIL", name,
            d.max_abs, d.relative);
    if (limit == 0)
        (void)printf("not judged\n");
    else
        (void)printf("limit %.0e\n", limit);
}

void verdict_steps(Verdict *v, const char *name, const float *found, const float *wanted,
        int64_t n_steps, size_t n, double limit) {
    Difference worst = {0};
    int64_t at = 0;
    for (int64_t i = 0; i < n_steps; i++) {
        Difference d = difference_of(found + (size_t)i * n, wanted + (size_t)i * n, n);
        if (!(d.relative <= worst.relative)) {
            worst = d;
            at = i;
        }
        if (isnan(worst.relative))
            break;
    }
    char text[64];
    (void)snprintf(text, sizeof(text), "%s, worst of %" PRId64 ": %" PRId64, name, n_steps, at);
    verdict_f32(v, text, worst, limit);
}

void verdict_ids(Verdict *v, const char *name, const int32_t *found, size_t n_found,
        const int32_t *wanted, size_t n_wanted) {
    size_t at = 0;
    while (at < n_found && at < n_wanted && found[at] == wanted[at])
        at++;
    bool holds = n_found == n_wanted && at == n_found;
    (void)printf("%s  %-34s ", count(v, holds) ? "ok  " : "FAIL", name);
    if (holds)
        (void)printf("%zu ids, equal\n", n_wanted);
    else
        (void)printf("%zu ids, wanted %zu, first difference at %zu\n", n_found, n_wanted, at);
}

void verdict_bytes(Verdict *v, const char *name, const uint8_t *found, const uint8_t *wanted,
        size_t n, const FrameLimits *limits) {
    int largest = 0;
    size_t n_equal = 0;
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        int d = abs((int)found[i] - (int)wanted[i]);
        largest = MAX(largest, d);
        n_equal += d == 0;
        square += (double)d * (double)d;
    }
    double share = (double)n_equal / (double)n;
    double db = square == 0 ? (double)INFINITY : 10 * log10(255.0 * 255.0 * (double)n / square);
    bool holds = (limits->max == 0 || largest <= limits->max) && share >= limits->equal &&
                 db >= limits->psnr;
    (void)printf("%s  %-34s max %d of 255  %.3f %% equal  %.1f dB  limit",
            count(v, holds) ? "ok  " : "FAIL", name, largest, 100 * share, db);
    if (limits->max > 0)
        (void)printf(" %d, %.1f %%\n", limits->max, 100 * limits->equal);
    else
        (void)printf(" %.0f dB\n", limits->psnr);
}

void verdict_failed(Verdict *v, const char *name, const char *why) {
    (void)count(v, false);
    (void)printf("FAIL  %-34s %s\n", name, why);
}
