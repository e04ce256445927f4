#include "test.h"

#include "warmup/reservation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A directory as the kernel's, and a note beside the counters. */
static char dir[64], note[96];

static void counter_write(const char *name, const char *text) {
    char file[128];
    (void)snprintf(file, sizeof(file), "%s/%s", dir, name);
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static uint64_t setting(HugePagesMode mode) {
    HugePages h;
    assert_int_equal(hugepages_read(dir, &h, NULL), 0);
    return reservation_setting(mode, &h);
}

static int setup(void **state) {
    (void)strcpy(dir, "/tmp/preheat-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(note, sizeof(note), "%s/note", dir);
    counter_write("nr_hugepages", "12\n");
    counter_write("free_hugepages", "3\n");
    counter_write("resv_hugepages", "0\n");
    counter_write("surplus_hugepages", "0\n"); /* a file does not add them up as the kernel does */
    counter_write("nr_overcommit_hugepages", "15\n");
    return 0;
}

static int teardown(void **state) {
    static const char *const names[] = {"nr_hugepages", "free_hugepages", "resv_hugepages",
            "surplus_hugepages", "nr_overcommit_hugepages", "note"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char file[128];
        (void)snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        (void)unlink(file);
    }
    return rmdir(dir);
}

static Reservation reserve(HugePagesMode mode, uint64_t wanted) {
    HugePages h;
    Reservation made = {.mode = mode, .before = setting(mode)};
    assert_int_equal(hugepages_reserve(dir, mode, wanted, NULL, &h, NULL), 0);
    made.after = reservation_setting(mode, &h);
    assert_int_equal(reservation_save(note, &made, NULL), 0);
    return made;
}

static void what_was_raised_is_set_back(void **state) {
    const HugePagesMode modes[] = {HUGEPAGES_SURPLUS, HUGEPAGES_PERMANENT};
    const uint64_t before[] = {15, 12};
    for (size_t i = 0; i < 2; i++) {
        Reservation said;
        (void)reserve(modes[i], 40);
        assert_true(setting(modes[i]) > before[i]);
        assert_int_equal(reservation_take_back(dir, note, &said, NULL), 0);
        assert_int_equal(said.before, before[i]);
        assert_int_equal(setting(modes[i]), before[i]);
        assert_int_equal(reservation_take_back(dir, note, &said, NULL), RESERVATION_NONE);
    }
}

static void a_second_raise_keeps_what_was_before(void **state) {
    Reservation said;
    (void)reserve(HUGEPAGES_SURPLUS, 40);
    (void)reserve(HUGEPAGES_SURPLUS, 60);
    assert_int_equal(setting(HUGEPAGES_SURPLUS), 60);
    assert_int_equal(reservation_take_back(dir, note, &said, NULL), 0);
    assert_int_equal(setting(HUGEPAGES_SURPLUS), 15);
}

static void nothing_raised_is_nothing_to_take_back(void **state) {
    Reservation said;
    (void)reserve(HUGEPAGES_SURPLUS, 4);
    assert_int_equal(access(note, F_OK), -1);
    assert_int_equal(reservation_take_back(dir, note, &said, NULL), RESERVATION_NONE);
    assert_int_equal(setting(HUGEPAGES_SURPLUS), 15);
}

static void what_somebody_changed_since_is_left(void **state) {
    Reservation said;
    (void)reserve(HUGEPAGES_SURPLUS, 40);
    counter_write("nr_overcommit_hugepages", "100\n");
    assert_int_equal(reservation_take_back(dir, note, &said, NULL), RESERVATION_CHANGED);
    assert_int_equal(said.after, 40);
    assert_int_equal(setting(HUGEPAGES_SURPLUS), 100);
    assert_int_equal(access(note, F_OK), -1);
}

static void a_strange_note_is_refused(void **state) {
    static const char *const texts[] = {
            "", "surplus", "surplus 3\n", "lots 3 4\n", "permanent x y\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        Reservation said;
        Err err = {0};
        counter_write("note", texts[i]);
        assert_int_equal(reservation_take_back(dir, note, &said, &err), -EBADMSG);
        assert_non_null(strstr(err_text(&err), "wanted are surplus or permanent"));
        assert_int_equal(setting(HUGEPAGES_SURPLUS), 15);
    }
}

static void a_failure_to_write_keeps_the_note(void **state) {
    Reservation said;
    Err err = {0};
    char file[128];
    (void)reserve(HUGEPAGES_SURPLUS, 40);
    (void)snprintf(file, sizeof(file), "%s/nr_hugepages", dir);
    assert_int_equal(unlink(file), 0);
    assert_true(reservation_take_back(dir, note, &said, &err) < 0);
    assert_int_equal(access(note, F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(what_was_raised_is_set_back, setup, teardown),
            cmocka_unit_test_setup_teardown(a_second_raise_keeps_what_was_before, setup, teardown),
            cmocka_unit_test_setup_teardown(
                    nothing_raised_is_nothing_to_take_back, setup, teardown),
            cmocka_unit_test_setup_teardown(what_somebody_changed_since_is_left, setup, teardown),
            cmocka_unit_test_setup_teardown(a_strange_note_is_refused, setup, teardown),
            cmocka_unit_test_setup_teardown(a_failure_to_write_keeps_the_note, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
