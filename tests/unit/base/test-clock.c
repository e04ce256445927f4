#include "test.h"

#include "base/clock.h"

static void deadlines_saturate(void **state) {
    assert_true(clock_deadline(USEC_INFINITY) == USEC_INFINITY);
    assert_true(clock_deadline(USEC_INFINITY - 1) == USEC_INFINITY);
    assert_true(clock_left(USEC_INFINITY) == USEC_INFINITY);
    assert_int_equal(clock_left(0), 0);
    assert_int_equal(clock_left(clock_usec()), 0);
}

static void time_left_shrinks(void **state) {
    uint64_t deadline = clock_deadline(10 * USEC_PER_SEC);
    uint64_t left = clock_left(deadline);
    assert_true(left > 0 && left <= 10 * USEC_PER_SEC);
    assert_true(clock_left(deadline) <= left);
}

static void wall_clock_is_after_this_was_written(void **state) {
    assert_true(clock_unix_sec() > 1700000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(deadlines_saturate),
            cmocka_unit_test(time_left_shrinks),
            cmocka_unit_test(wall_clock_is_after_this_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
