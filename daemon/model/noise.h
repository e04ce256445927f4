/* noise - a seed to standard normal numbers, the same bytes on every machine and backend.
 *
 * Element i of a seed's sequence belongs to block b = floor(i / 4), lane i mod 4:
 *
 *   x0 x1 x2 x3 = Philox4x32-10, counter (b mod 2^32, floor(b / 2^32), 0, 0), key (seed mod 2^32,
 *                 floor(seed / 2^32))
 *   lanes 0, 1  = r cos(a), r sin(a) with r = sqrt(-2 ln((x0 + 1) / 2^32)), a = 2 pi x1 / 2^32
 *   lanes 2, 3  = the same of x2 and x3
 *
 * computed in IEEE doubles by + - * / and sqrt alone, each of which has one right result, and
 * rounded once to f32. ln and sin, cos are these sums, highest power first, by Horner's rule:
 *
 *   ln(n / 2^32)  n = m 2^e with m in [2896309 / 2^22, 2896309 / 2^21), f = (m - 1) / (m + 1),
 *                 g = f f, p = (..(1/19 g + 1/17) g + ..) g + 1, then (e - 32) L + 2 f p,
 *                 L = 0x1.62e42fefa39efp-1
 *   cos, sin      q = floor((x + 2^29) / 2^30), a = (x - q 2^30) P, P = 0x1.921fb54442d18p-30,
 *                 g = a a, s = a (..(-1/15! g + 1/13!) g - ..) + 1), c = (..(1/16! g - 1/14!) g +
 * ..)
 *                 + 1; q mod 4 = 0: c s, 1: -s c, 2: -c -s, 3: s -c
 *
 * Every coefficient is the double nearest to the fraction. The sums are within 2^-50 of the
 * functions, so another accurate ln, sin and cos gives the same f32 but for a rare last bit.
 *
 * Test vector: seed 1 begins 0x1.8587c6p-2, -0x1.2f6378p-2, -0x1.fe6e18p-3, -0x1.00fb7ap+0,
 * 0x1.40ff5p-1, -0x1.449986p-1. Latents [c, t, h, w]
 * take their elements in memory order; video i of a request has seed + i. Source of Philox:
 * Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#ifndef PREHEAT_MODEL_NOISE_H
#define PREHEAT_MODEL_NOISE_H

#include <stdint.h>

/* noise_fill - elements first .. first + n - 1 of the seed's sequence. Any thread; parts of a
 * sequence may be filled by different threads. */
void noise_fill(float *y, int64_t n, uint64_t seed, uint64_t first);

/* noise_philox - one block of Philox4x32-10. */
void noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4]);

#endif
