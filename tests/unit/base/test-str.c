#include "test.h"

#include "base/macro.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void comparisons(void **state) {
    assert_true(str_eq("", "") && !str_eq("a", "b"));
    assert_true(str_starts("manifest", "mani") && str_starts("x", "") && !str_starts("x", "xy"));
    assert_true(str_ends("a.conf", ".conf") && str_ends("x", "") && !str_ends("conf", ".conf"));
    char *text = str_format("%s-%d", "n", 3);
    assert_string_equal(text, "n-3");
    free(text);
}

static void whole_numbers(void **state) {
    static const struct {
        const char *text;
        int code;
        int64_t value;
    } cases[] = {
            {"0", 0, 0},
            {"-17", 0, -17},
            {"9223372036854775807", 0, INT64_MAX},
            {"-9223372036854775808", 0, INT64_MIN},
            {"9223372036854775808", -ERANGE, 0},
            {"", -EINVAL, 0},
            {"-", -EINVAL, 0},
            {"+1", -EINVAL, 0},
            {" 1", -EINVAL, 0},
            {"1 ", -EINVAL, 0},
            {"0x10", -EINVAL, 0},
            {"1.0", -EINVAL, 0},
            {"1e3", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t v = 0;
        assert_int_equal(str_to_i64(cases[i].text, &v), cases[i].code);
        assert_true(v == cases[i].value);
    }
    uint64_t u = 0;
    assert_int_equal(str_to_u64("18446744073709551615", &u), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(str_to_u64("18446744073709551616", &u), -ERANGE);
    assert_int_equal(str_to_u64("-1", &u), -EINVAL);
    assert_true(u == UINT64_MAX);
}

static void real_numbers(void **state) {
    static const struct {
        const char *text;
        int code;
        double value;
    } cases[] = {
            {"0", 0, 0},
            {"-2.5", 0, -2.5},
            {"1e3", 0, 1000},
            {"1E-2", 0, 0.01},
            {"1e999", -ERANGE, 0},
            {"nan", -EINVAL, 0},
            {"inf", -EINVAL, 0},
            {"0x1p3", -EINVAL, 0},
            {".5", -EINVAL, 0},
            {"1.5x", -EINVAL, 0},
            {"1-2", -EINVAL, 0},
            {"", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double v = 0;
        assert_int_equal(str_to_f64(cases[i].text, &v), cases[i].code);
        assert_true(v == cases[i].value);
    }
}

static void sizes(void **state) {
    static const struct {
        double bytes;
        const char *text;
    } cases[] = {{0, "0 B"}, {999, "999 B"}, {1000, "1.0 kB"}, {13.4e6, "13.4 MB"},
            {999.96e6, "1.0 GB"}, {5e15, "5000.0 TB"}, {1.8e19, "18000000.0 TB"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[STR_BYTES_SIZE];
        assert_string_equal(str_bytes(text, cases[i].bytes), cases[i].text);
    }
}

/* Unicode 15, table 3-7, and the sequences just outside it. */
static void utf8_is_mended(void **state) {
    static const struct {
        const char *text, *mended;
    } cases[] = {{"", ""}, {"plain", "plain"}, {"caf\xc3\xa9", "caf\xc3\xa9"}, {"caf\xc3", "caf?"},
            {"\xe2\x82", "??"}, {"\xff\xc3\xa9\x80z", "?\xc3\xa9?z"}, {"\xed\xa0\x80", "???"},
            {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}, {"\xf0\x9f\x98...", "???..."}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%s", cases[i].text);
        str_mend_utf8(text);
        assert_string_equal(text, cases[i].mended);
    }
}

static void utf8(void **state) {
    static const char *const good[] = {"", "abc", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
            "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41",
            "\xe0\x9f\xbf", "\xe0\xa0", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
            "\xf5\x80\x80\x80", "\xff", "a\xf0\x90\x80"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(str_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(str_is_utf8(bad[i], strlen(bad[i])));
    assert_true(str_is_utf8("\xc2\x80", 2) && !str_is_utf8("\xc2\x80", 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(comparisons),
            cmocka_unit_test(whole_numbers),
            cmocka_unit_test(real_numbers),
            cmocka_unit_test(sizes),
            cmocka_unit_test(utf8),
            cmocka_unit_test(utf8_is_mended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
