#include "serving.h"

#include <fcntl.h>

static int make_pipe(int *ret_reading) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    *ret_reading = ends[0];
    return ends[1];
}

static void names_have_a_rule(void **state) {
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"parked-0", true}, {"a", true}, {"abcdefghijklmnopqrstuvw", true},
            {"abcdefghijklmnopqrstuvwx", false}, {"", false}, {"Parked", false}, {"a b", false},
            {"a\n", false}, {"a=b", false}, {"a:b", false}};
    char name[WIRE_NAME_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(wire_name_set(name, cases[i].text), cases[i].good);
    memset(name, 'a', sizeof(name)); /* has no end */
    assert_false(wire_name_is_good(name));
    name[3] = '\0'; /* has something after it */
    assert_false(wire_name_is_good(name));
}

static void what_is_removed_is_closed(void **state) {
    Shelf s = {0};
    int reading[3];
    char name[3][WIRE_NAME_SIZE];
    for (size_t i = 0; i < 3; i++) {
        assert_true(wire_name_set(name[i], (const char *[]){"a", "b", "c"}[i]));
        assert_int_equal(shelf_put(&s, name[i], make_pipe(&reading[i])), 0);
    }
    assert_int_equal(shelf_remove(&s, name[0]), 1);
    assert_int_equal(shelf_remove(&s, name[0]), 0);
    assert_true(is_closed(reading[0]) && !is_closed(reading[1]) && !is_closed(reading[2]));
    int again;
    assert_int_equal(shelf_put(&s, name[1], make_pipe(&again)), 0);
    assert_int_equal(s.n, 2);
    assert_true(is_closed(reading[1]) && !is_closed(again));
    assert_int_equal(shelf_clear(&s), 2);
    assert_int_equal(shelf_clear(&s), 0);
    assert_true(is_closed(reading[2]) && is_closed(again));
    for (size_t i = 0; i < 3; i++)
        close(reading[i]);
    close(again);
}

static void a_full_one_takes_no_more(void **state) {
    Shelf s = {0};
    char name[WIRE_NAME_SIZE], text[16];
    for (unsigned i = 0; i < WIRE_MAX_KEPT; i++) {
        (void)snprintf(text, sizeof(text), "parked-%u", i);
        assert_true(wire_name_set(name, text));
        assert_int_equal(shelf_put(&s, name, dup(STDERR_FILENO)), 0);
    }
    assert_int_equal(shelf_put(&s, name, dup(STDERR_FILENO)), 0); /* in its own place */
    int fd = dup(STDERR_FILENO);
    assert_true(wire_name_set(name, "one-more"));
    assert_int_equal(shelf_put(&s, name, fd), -ENOSPC);
    assert_int_equal(close(fd), 0); /* still ours */
    assert_int_equal(shelf_clear(&s), WIRE_MAX_KEPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(names_have_a_rule),
            cmocka_unit_test(what_is_removed_is_closed),
            cmocka_unit_test(a_full_one_takes_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
