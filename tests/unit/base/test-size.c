#include "test.h"

#include "base/size.h"

static void overflow_is_told(void **state) {
    uint64_t v;
    assert_true(size_mul(1 << 20, 1 << 20, &v) && v == (uint64_t)1 << 40);
    assert_false(size_mul((uint64_t)1 << 32, (uint64_t)1 << 32, &v));
    assert_true(size_mul(UINT64_MAX, 1, &v) && v == UINT64_MAX);
    assert_true(size_add(UINT64_MAX, 0, &v) && v == UINT64_MAX);
    assert_false(size_add(UINT64_MAX, 1, &v));
}

static void alignment_rounds_up(void **state) {
    assert_int_equal(size_align(0, 4096), 0);
    assert_int_equal(size_align(1, 4096), 4096);
    assert_int_equal(size_align(4096, 4096), 4096);
    assert_int_equal(size_align(4097, 1), 4097);
    assert_true(size_align(UINT64_MAX - 4095, 4096) == UINT64_MAX - 4095);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(overflow_is_told),
            cmocka_unit_test(alignment_rounds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
