#include "test.h"

#include "base/half.h"

#include <math.h>

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

/* All 65536 values: widening is exact, so narrowing again must give the same bits. */
static void bf16_round_trips(void **state) {
    for (uint32_t h = 0; h < 65536; h++) {
        float f = bf16_to_f32((uint16_t)h);
        uint16_t back = bf16_from_f32(f);
        if (isnan(f))
            assert_true(isnan(bf16_to_f32(back)));
        else
            assert_int_equal(back, h);
    }
}

static void bf16_rounds_to_even(void **state) {
    static const struct {
        float f;
        uint16_t h;
    } cases[] = {
            {1.0f, 0x3f80},
            {0x1.01p0f, 0x3f80},       /* half way: down to even */
            {0x1.03p0f, 0x3f82},       /* half way: up to even */
            {0x1.010002p0f, 0x3f81},   /* just above half way */
            {0x1.fffffep127f, 0x7f80}, /* rounds up to infinity */
            {INFINITY, 0x7f80},
            {-0.0f, 0x8000},
            {0x1p-149f, 0x0000},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(bf16_from_f32(cases[i].f), cases[i].h);
    /* A NaN whose payload is only in the low bits must not become infinity. */
    float nan;
    memcpy(&nan, &(uint32_t){0x7f800001}, sizeof(nan));
    assert_true(isnan(bf16_to_f32(bf16_from_f32(nan))));
}

/* Against the definition: sign, exponent and mantissa of IEEE 754 binary16. */
static void f16_is_exact_for_all_values(void **state) {
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        float f = f16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f) >> 31, h >> 15);
        if (exponent == 31) {
            assert_true(mantissa ? isnan(f) : isinf(f));
            continue;
        }
        double wanted = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        assert_true(fabs((double)f) == wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(bf16_round_trips),
            cmocka_unit_test(bf16_rounds_to_even),
            cmocka_unit_test(f16_is_exact_for_all_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
