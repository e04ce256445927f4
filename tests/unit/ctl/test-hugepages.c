#include "test.h"

#include "ctl/hugepages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print(const HugePages *p, uint64_t n_needed, uint64_t n_held, char *text, size_t size) {
    FILE *f = fmemopen(text, size, "w");
    assert_non_null(f);
    hugepages_print(p, "m", n_needed, n_held, f);
    assert_int_equal(fclose(f), 0);
}

static void missing_ones_are_counted(void **state) {
    char text[2048];
    HugePages p = {.total = 10, .free = 6, .reserved = 2, .surplus = 1, .overcommit = 4};
    assert_int_equal(hugepages_available(&p), 7);
    print(&p, 7, 0, text, sizeof(text));
    assert_non_null(strstr(text, "That is enough."));
    print(&p, 17, 10, text, sizeof(text));
    assert_non_null(strstr(text, "10 of them held by its segment"));
    assert_non_null(strstr(text, "That is enough."));
    print(&p, 1000, 0, text, sizeof(text));
    assert_non_null(strstr(text, "Model 'm' takes 1000 huge pages of 2 MiB (2000 MiB)."));
    assert_non_null(strstr(text, "993 are missing."));
    assert_non_null(strstr(text, "sysctl vm.nr_overcommit_hugepages=997\n"));
    assert_non_null(strstr(text, "sysctl vm.nr_hugepages=1002\n"));
    assert_non_null(strstr(text, "hugepagesz=1G hugepages=2 on"));
}

static void write_file(const char *dir, const char *name, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void kernel_files_are_read(void **state) {
    char dir[] = "/tmp/preheat-test-XXXXXX", path[128];
    static const char *const names[] = {"nr_hugepages", "free_hugepages", "resv_hugepages",
            "surplus_hugepages", "nr_overcommit_hugepages"};
    HugePages p;
    Err err = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(hugepages_read(dir, &p, &err), -ENOENT);
    for (int i = 0; i < 5; i++) {
        char number[16];
        (void)snprintf(number, sizeof(number), "%d\n", 11 * (i + 1));
        write_file(dir, names[i], number);
    }
    assert_int_equal(hugepages_read(dir, &p, NULL), 0);
    assert_int_equal(p.total, 11);
    assert_int_equal(p.free, 22);
    assert_int_equal(p.reserved, 33);
    assert_int_equal(p.surplus, 44);
    assert_int_equal(p.overcommit, 55);
    write_file(dir, names[2], "many\n");
    err_clear(&err);
    assert_int_equal(hugepages_read(dir, &p, &err), -EBADMSG);
    assert_non_null(strstr(err_text(&err), "holds 'many', a number is wanted"));
    for (int i = 0; i < 5; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(missing_ones_are_counted),
            cmocka_unit_test(kernel_files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
