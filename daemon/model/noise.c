#include "model/noise.h"

#include "base/macro.h"

#include <float.h>
#include <math.h>

/* Double arithmetic must be that of doubles, unfused (-ffp-contract=off in the build): otherwise
 * last bits depend on the machine. */
static_assert(FLT_EVAL_METHOD == 0, "doubles are evaluated as doubles");

void noise_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * c0, b = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    ret[0] = c0;
    ret[1] = c1;
    ret[2] = c2;
    ret[3] = c3;
}

/* ln(n / 2^32) for 1 <= n <= 2^32. */
static double log_frac(uint64_t n) {
    int e = 63 - __builtin_clzll(n);
    double m = (double)n / (double)((uint64_t)1 << e); /* exact, in [1, 2) */
    if (m >= 2896309.0 / 2097152) {                    /* about sqrt(2): keeps |f| below 0.172 */
        m /= 2;
        e++;
    }
    double f = (m - 1) / (m + 1), g = f * f, p = 1.0 / 19;
    for (int k = 17; k >= 1; k -= 2)
        p = p * g + 1.0 / k;
    return (e - 32) * 0x1.62e42fefa39efp-1 + 2 * f * p;
}

/* Cosine and sine of 2 pi x / 2^32. */
static void cos_sin(uint32_t x, double *ret_cos, double *ret_sin) {
    static const double sin_terms[] = {-1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
            1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1};
    static const double cos_terms[] = {1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600,
            -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -1.0 / 2, 1};
    uint64_t q = ((uint64_t)x + ((uint64_t)1 << 29)) >> 30;
    double a = (double)((int64_t)x - (int64_t)(q << 30)) * 0x1.921fb54442d18p-30, g = a * a;
    double s = sin_terms[0], c = cos_terms[0];
    for (size_t i = 1; i < ARRAY_LEN(sin_terms); i++)
        s = s * g + sin_terms[i];
    for (size_t i = 1; i < ARRAY_LEN(cos_terms); i++)
        c = c * g + cos_terms[i];
    s *= a;
    *ret_cos = q % 4 == 0 ? c : q % 4 == 1 ? -s : q % 4 == 2 ? -c : s;
    *ret_sin = q % 4 == 0 ? s : q % 4 == 1 ? c : q % 4 == 2 ? -s : -c;
}

static void normal_block(uint64_t block, uint64_t seed, float ret[4]) {
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, x[4];
    noise_philox(counter, key, x);
    for (int i = 0; i < 4; i += 2) {
        double r = sqrt(-2 * log_frac((uint64_t)x[i] + 1)), c, s;
        cos_sin(x[i + 1], &c, &s);
        ret[i] = (float)(r * c);
        ret[i + 1] = (float)(r * s);
    }
}

void noise_fill(float *y, int64_t n, uint64_t seed, uint64_t first) {
    float block[4];
    for (int64_t i = 0; i < n; i++) {
        uint64_t at = first + (uint64_t)i;
        if (i == 0 || at % 4 == 0)
            normal_block(at / 4, seed, block);
        y[i] = block[at % 4];
    }
}
