#include "test.h"

#include "base/cleanup.h"
#include "park/park.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static ParkHead head(void) {
    return (ParkHead){.backend = "cpu",
            .device = {1, 2},
            .model = {{3}},
            .build = {{4}},
            .residency = "all of them",
            .n_pieces = 3,
            .bytes = {256, 512, 1 << 30}};
}

static void a_head_is_read_as_it_was_written(void **state) {
    ParkHead wanted = head(), found;
    _cleanup_close_ int fd = -1;
    assert_int_equal(park_head_write(&wanted, &fd, NULL), 0);
    assert_int_equal(park_head_read(fd, &found, NULL), 0);
    assert_memory_equal(&found, &wanted, sizeof(found));
    assert_int_equal(pwrite(fd, "x", 1, 0), -1); /* sealed */
    assert_int_equal(park_head_compare(&found, &wanted, NULL), 0);
    assert_int_equal(park_head_compare_pieces(&found, &wanted, NULL), 0);
}

/* A copy of a head with n bytes, one of them changed, and seals or none. */
static int forge(const ParkHead *h, size_t cut, long flip, int seals) {
    char bytes[8192];
    _cleanup_close_ int from = -1;
    assert_int_equal(park_head_write(h, &from, NULL), 0);
    ssize_t n = pread(from, bytes, sizeof(bytes), 0);
    assert_true(n > 0 && (size_t)n > cut);
    if (flip >= 0)
        bytes[flip] ^= 1;
    int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(fd, bytes, (size_t)n - cut), n - (ssize_t)cut);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void what_is_no_whole_head_is_refused(void **state) {
    enum { ALL = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };
    static const struct {
        size_t cut;
        long flip;
        int seals;
        const char *sentence;
    } cases[] = {
            {0, -1, F_SEAL_GROW, "the head is not a sealed memory file"},
            {0, -1, ALL & ~F_SEAL_WRITE, "the head is not a sealed memory file"},
            {1, -1, ALL, "the head has 2127 bytes, it must have 2128"},
            {2127, -1, ALL, "the head has 1 bytes, it must have 2128"},
            {0, 0, ALL, "the head is not of format 1"},
            {0, 8, ALL, "the head is not of format 1"},
            {0, 12, ALL, "the head is not of format 1"},
            {0, 16, ALL, "the head does not have its digest"},
            {0, 2127, ALL, "the head does not have its digest"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ParkHead h = head(), found;
        Err err = {0};
        _cleanup_close_ int fd = forge(&h, cases[i].cut, cases[i].flip, cases[i].seals);
        assert_int_equal(park_head_read(fd, &found, &err), -EBADMSG);
        assert_string_equal(err_text(&err), cases[i].sentence);
    }
    ParkHead found;
    _cleanup_close_ int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(park_head_read(file, &found, NULL), -EBADMSG);
    assert_int_equal(park_head_read(-1, &found, NULL), -EBADMSG);
}

static void refuse_head(const ParkHead *h, const char *sentence) {
    ParkHead found;
    Err err = {0};
    _cleanup_close_ int fd = -1;
    assert_int_equal(park_head_write(h, &fd, NULL), 0);
    assert_int_equal(park_head_read(fd, &found, &err), -EBADMSG);
    assert_string_equal(err_text(&err), sentence);
}

static void numbers_that_cannot_be_are_refused(void **state) {
    ParkHead h = head();
    h.n_pieces = 0;
    refuse_head(&h, "the head has 0 pieces, allowed are 1 to 250");
    h.n_pieces = 251;
    refuse_head(&h, "the head has 251 pieces, allowed are 1 to 250");
    h = head();
    h.bytes[1] = 0;
    refuse_head(&h, "the head's piece 1 of 3 has 0 bytes");
    h = head();
    h.bytes[3] = 1;
    refuse_head(&h, "the head's piece 3 of 3 has 1 bytes");
    h = head();
    h.bytes[2] = UINT64_MAX;
    refuse_head(&h, "the head's piece 2 of 3 has 18446744073709551615 bytes");
    h = head();
    memset(h.backend, 'x', sizeof(h.backend));
    refuse_head(&h, "a name in the head has no end");
}

static void what_differs_is_named(void **state) {
    ParkHead wanted = head(), found = head();
    Err err = {0};
    strcpy(found.backend, "cuda");
    assert_int_equal(park_head_compare(&found, &wanted, &err), -ESTALE);
    assert_string_equal(err_text(&err), "they are of backend 'cuda', this is 'cpu'");
    static const char *const names[] = {"device", "model", "build"};
    for (int i = 0; i < 3; i++) {
        found = head();
        if (i == 0)
            found.device[15] = 9;
        else
            (i == 1 ? &found.model : &found.build)->byte[15] = 9;
        err_clear(&err);
        assert_int_equal(park_head_compare(&found, &wanted, &err), -ESTALE);
        assert_non_null(strstr(err_text(&err), names[i]));
        assert_int_equal(park_head_compare_pieces(&found, &wanted, NULL), 0);
    }
    found = head();
    strcpy(found.residency, "some");
    err_clear(&err);
    assert_int_equal(park_head_compare_pieces(&found, &wanted, &err), -ESTALE);
    assert_string_equal(err_text(&err), "they are for 'some', this is 'all of them'");
    found = head();
    found.n_pieces = 2;
    err_clear(&err);
    assert_int_equal(park_head_compare_pieces(&found, &wanted, &err), -ESTALE);
    assert_string_equal(err_text(&err), "they are 2 pieces, wanted are 3");
    found = head();
    found.bytes[1] = 768;
    err_clear(&err);
    assert_int_equal(park_head_compare_pieces(&found, &wanted, &err), -ESTALE);
    assert_string_equal(err_text(&err), "piece 1 has 768 bytes, wanted are 512");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_head_is_read_as_it_was_written),
            cmocka_unit_test(what_is_no_whole_head_is_refused),
            cmocka_unit_test(numbers_that_cannot_be_are_refused),
            cmocka_unit_test(what_differs_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
