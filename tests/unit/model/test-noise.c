#include "test.h"

#include "base/digest.h"
#include "base/macro.h"
#include "model/noise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Known answers of Random123 1.14, tests/kat_vectors, philox4x32 with 10 rounds. */
static void philox_gives_known_answers(void **state) {
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } cases[] = {
            {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
            {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
                    {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
            {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
                    {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t x[4];
        noise_philox(cases[i].counter, cases[i].key, x);
        assert_memory_equal(x, cases[i].answer, sizeof(x));
    }
}

/* Computed from the formula in noise.h by a Python program, whose floats are IEEE doubles. */
static void sequence_is_the_documented_one(void **state) {
    static const struct {
        uint64_t seed;
        float y[8];
    } cases[] = {
            {0, {0x1.fb7666p-1F, -0x1.d96d6p-1F, -0x1.3c373ep-1F, -0x1.eda364p-2F, -0x1.3aa6aep-3F,
                        0x1.7254dap-3F, 0x1.a9d93p-1F, 0x1.945b46p-3F}},
            {1, {0x1.8587c6p-2F, -0x1.2f6378p-2F, -0x1.fe6e18p-3F, -0x1.00fb7ap+0F, 0x1.40ff5p-1F,
                        -0x1.4499860p-1F, -0x1.5b466ap-1F, -0x1.03594p+0F}},
            {INT64_MAX, {-0x1.963588p+0F, -0x1.b03d04p-1F, 0x1.ca51c4p-3F, 0x1.3cc6c2p-4F,
                                0x1.5841c8p-2F, -0x1.4d0e1p+1F, -0x1.52bfa6p-1F, -0x1.b5763cp-3F}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        float y[8];
        noise_fill(y, 8, cases[i].seed, 0);
        assert_memory_equal(y, cases[i].y, sizeof(y));
    }

    static const struct {
        uint64_t seed, first;
        int64_t n;
        const char *digest;
    } long_ones[] = {
            {1, 0, 4096, "d72a6093f818821032d4b8f3817c94ad"},
            {INT64_MAX, ((uint64_t)1 << 34) + 3, 1001, "b88ecd3f2feb5186a669b619d72b900e"},
    };
    for (size_t i = 0; i < ARRAY_LEN(long_ones); i++) {
        float y[4096];
        char hex[DIGEST_HEX_SIZE];
        noise_fill(y, long_ones[i].n, long_ones[i].seed, long_ones[i].first);
        Digest d = digest_of(y, (size_t)long_ones[i].n * sizeof(float));
        assert_string_equal(digest_hex(&d, hex), long_ones[i].digest);
    }
}

/* However the sequence is cut, as threads would, its elements are the same. */
static void parts_are_the_whole(void **state) {
    enum { N = 1000 };
    float whole[N], part[N];
    noise_fill(whole, N, 42, 7);
    for (int64_t step = 1; step <= 13; step++) {
        memset(part, 0xff, sizeof(part));
        for (int64_t i = 0; i < N; i += step)
            noise_fill(part + i, MIN(step, N - i), 42, 7 + (uint64_t)i);
        assert_memory_equal(part, whole, sizeof(whole));
    }
}

static void seeds_differ(void **state) {
    float a[4], b[4];
    noise_fill(a, 4, 1, 0);
    noise_fill(b, 4, 1 + ((uint64_t)1 << 32), 0);
    assert_memory_not_equal(a, b, sizeof(a));
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* n = 2^20 draws. Standard errors of the first four moments are sqrt(1, 2, 15, 96) / sqrt(n) (the
 * last two about 0, 3): six of them is one failure in 10^9. Kolmogorov-Smirnov: sqrt(n) D
 * beyond 2.3 has probability 2 exp(-2 * 2.3^2) = 5e-5, and the seeds are fixed. */
static void distribution_is_normal(void **state) {
    enum { N = 1 << 20 };
    float *y = malloc(N * sizeof(*y));
    assert_non_null(y);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        noise_fill(y, N, seed, 0);
        double m[4] = {0}, pairs = 0;
        for (int64_t i = 0; i < N; i++) {
            assert_true(isfinite(y[i]));
            double p = 1;
            for (int k = 0; k < 4; k++)
                m[k] += (p *= y[i]) / N;
            pairs += (double)y[i] * y[(i + 1) % N] / N;
        }
        static const double expected[4] = {0, 1, 0, 3}, variance[4] = {1, 2, 15, 96};
        for (int k = 0; k < 4; k++)
            assert_true(fabs(m[k] - expected[k]) < 6 * sqrt(variance[k] / N));
        assert_true(fabs(pairs) < 6 / sqrt(N));

        qsort(y, N, sizeof(*y), compare);
        double worst = 0;
        for (int64_t i = 0; i < N; i++) {
            double f = 0.5 * erfc(-y[i] / sqrt(2));
            worst = fmax(worst, fmax(fabs(f - (double)i / N), fabs(f - (double)(i + 1) / N)));
        }
        assert_true(worst * sqrt(N) < 2.3);
        /* The tails reach as far as 2^20 draws should: beyond 4.2, and never beyond 6.67. */
        assert_true(y[0] < -4.2F && y[N - 1] > 4.2F && y[0] > -6.67F && y[N - 1] < 6.67F);
    }
    free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(philox_gives_known_answers),
            cmocka_unit_test(sequence_is_the_documented_one),
            cmocka_unit_test(parts_are_the_whole),
            cmocka_unit_test(seeds_differ),
            cmocka_unit_test(distribution_is_normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
