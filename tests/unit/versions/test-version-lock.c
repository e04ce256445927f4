#include "test.h"

#include "versions/version-lock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static VersionLock parsed(const char *text) {
    VersionLock l;
    assert_int_equal(version_lock_parse(text, &l, NULL), 0);
    return l;
}

static void check(const char *lock, const char *found, size_t n, const char *sentence) {
    VersionLock a = parsed(lock), b = parsed(found);
    Buf out = {0};
    assert_int_equal(version_lock_compare(&a, &b, &out), n);
    assert_string_equal(out.data ? out.data : "", sentence);
    buf_done(&out);
}

static void what_is_printed_is_read_again(void **state) {
    VersionLock l = parsed("# a comment\n\nprogram preheatd 0.1.0 # another\n"
                           "\tlibrary  libc.so.6\t-  \r\nformat manifest 1");
    assert_int_equal(l.n, 3);
    assert_string_equal(version_lock_find(&l, "library", "libc.so.6"), "-");
    assert_null(version_lock_find(&l, "library", "libm.so.6"));
    Buf out = {0};
    version_lock_print(&l, &out);
    VersionLock again = parsed(out.data);
    assert_int_equal(again.n, l.n);
    assert_memory_equal(&again, &l, sizeof(l));
    buf_done(&out);
}

static void both_sides_of_a_difference_are_named(void **state) {
    check("program preheatd 1\n", "program preheatd 1\nlibrary more -\n", 0, "");
    check("program preheatd 1\nlibrary libx.so.1 aa\n", "program preheatd 2\n", 2,
            "program 'preheatd' has version 2, wanted is 1; "
            "library 'libx.so.1' is missing, wanted is build-id aa");
    check("library libx.so.1 aa\n", "library libx.so.1 ab\n", 1,
            "library 'libx.so.1' has build-id ab, wanted is aa");
    check("format segment 1\n", "format segment 2\n", 1,
            "format 'segment' has format 2, wanted is 1");
}

static void drivers_may_be_newer(void **state) {
    static const struct {
        const char *wanted, *found;
        size_t n;
    } cases[] = {{"580", "580.65.06", 0}, {"580.65.06", "580.65.06", 0}, {"580.65", "580.9", 1},
            {"580.9", "580.65", 0}, {"580", "570.200", 1}, {"580.65.06", "580.65", 1},
            {"525.60.13", "1000.1", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char lock[80], found[80];
        (void)snprintf(lock, sizeof(lock), "driver nvidia %s\n", cases[i].wanted);
        (void)snprintf(found, sizeof(found), "driver nvidia %s\n", cases[i].found);
        VersionLock a = parsed(lock), b = parsed(found);
        Buf out = {0};
        assert_int_equal(version_lock_compare(&a, &b, &out), cases[i].n);
        buf_done(&out);
    }
    check("driver nvidia 580\n", "driver nvidia 470.1\n", 1,
            "driver 'nvidia' has version 470.1, wanted is at least 580");
}

static void a_machine_without_a_card_is_no_difference(void **state) {
    check("driver nvidia 580\nmodule preheat-backend-cuda.so aa\nruntime cuda 13.0\n"
          "cublaslt libcublasLt.so 13\n",
            "", 0, "");
    check("module preheat-backend-cuda.so aa\n", "module preheat-backend-cuda.so bb\n", 1,
            "module 'preheat-backend-cuda.so' has build-id bb, wanted is aa");
}

static void bad_lines_are_refused_by_number(void **state) {
    static const char *const bad[] = {"library libc.so.6\n", "library a b c\n", "magic a b\n",
            "library\n",
            "library 0123456789012345678901234567890123456789012345678901234567890123 -\n",
            "library a\x1b -\n", "library \xc3\xa4 -\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[300];
        VersionLock l;
        Err err = {0};
        (void)snprintf(text, sizeof(text), "\n%s", bad[i]);
        assert_int_equal(version_lock_parse(text, &l, &err), -EINVAL);
        assert_non_null(strstr(err_text(&err), "line 2"));
    }
    char long_line[400];
    VersionLock l;
    memset(long_line, 'x', sizeof(long_line));
    long_line[sizeof(long_line) - 1] = '\0';
    assert_int_equal(version_lock_parse(long_line, &l, NULL), -EINVAL);
    Buf many = {0};
    for (int i = 0; i <= VERSION_LOCK_MAX; i++)
        buf_printf(&many, "library l%d -\n", i);
    assert_int_equal(version_lock_parse(many.data, &l, NULL), -ENOSPC);
    buf_done(&many);
}

static void a_process_is_as_it_is(void **state) {
    VersionLock a = {0}, b = {0};
    Buf out = {0};
    assert_int_equal(version_lock_add_loaded(&a, NULL), 0);
    assert_int_equal(version_lock_add_loaded(&b, NULL), 0);
    assert_non_null(version_lock_find(&a, "library", "libc.so.6"));
    assert_int_equal(version_lock_compare(&a, &b, &out), 0);
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(what_is_printed_is_read_again),
            cmocka_unit_test(both_sides_of_a_difference_are_named),
            cmocka_unit_test(drivers_may_be_newer),
            cmocka_unit_test(a_machine_without_a_card_is_no_difference),
            cmocka_unit_test(bad_lines_are_refused_by_number),
            cmocka_unit_test(a_process_is_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
