#include "test.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

static void appends_grow_and_end_in_nul(void **state) {
    Buf b = {0};
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_false(buf_failed(&b));
    assert_int_equal(b.size, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(b.data), b.size);
    assert_string_equal(b.data + b.size - 8, "998,999,");
    buf_append(&b, "a\0b", 3);
    assert_memory_equal(b.data + b.size - 3, "a\0b", 4);
    buf_done(&b);
    assert_null(b.data);
}

static void grown_bytes_are_counted(void **state) {
    Buf b = {0};
    char *p = buf_grow(&b, 5);
    memcpy(p, "hello", 5);
    assert_string_equal(b.data, "hello");
    assert_non_null(buf_grow(&b, 0));
    assert_int_equal(b.size, 5);
    buf_done(&b);
}

static void failure_is_remembered(void **state) {
    Buf b = {0};
    buf_append(&b, "x", 1);
    assert_null(buf_grow(&b, SIZE_MAX - 1));
    assert_true(buf_failed(&b));
    buf_append(&b, "y", 1);
    buf_printf(&b, "z");
    assert_int_equal(b.size, 1);
    assert_null(buf_take(&b));
    assert_false(buf_failed(&b));
    assert_null(b.data);
}

static void take_hands_over(void **state) {
    Buf b = {0};
    char *empty = buf_take(&b);
    assert_string_equal(empty, "");
    free(empty);
    buf_printf(&b, "%s", "text");
    char *text = buf_take(&b);
    assert_string_equal(text, "text");
    assert_int_equal(b.size, 0);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(appends_grow_and_end_in_nul),
            cmocka_unit_test(grown_bytes_are_counted),
            cmocka_unit_test(failure_is_remembered),
            cmocka_unit_test(take_hands_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
