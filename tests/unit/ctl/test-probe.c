#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "ctl/probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char dir[] = "/tmp/preheat-probe-XXXXXX";

static int make_directory(void **state) {
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_directory(void **state) {
    _cleanup_free_ char *command = str_format("rm -r '%s'", dir);
    return system(command);
}

static char *put(const char *name, const char *text) {
    char *path = str_format("%s/%s", dir, name);
    assert_non_null(path);
    assert_int_equal(io_write_file(AT_FDCWD, path, text, strlen(text), 0644, NULL), 0);
    return path;
}

static const Finding *only(const Findings *f, FindingState state, const char *part) {
    assert_int_equal(f->n, 1);
    if (f->item[0].state != state || !strstr(f->item[0].text, part))
        fail_msg("state %d: %s", (int)f->item[0].state, f->item[0].text);
    return &f->item[0];
}

static void memory_is_held_against_the_weights(void **state) {
    static const struct {
        uint64_t wanted, floor;
        FindingState state;
        const char *part;
    } cases[] = {{0, UINT64_C(1) << 40, FINDING_OK, "2.0 GB available"},
            {1000000000, 500000000, FINDING_OK, "the weights take 1.0 GB"},
            {1000000000, 1100000000, FINDING_NOTE, "1.1 GB are to stay free"}};
    _cleanup_free_ char *path =
            put("meminfo", "MemTotal:        4000000 kB\nMemAvailable:    2000000 kB\n");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Findings f = {0};
        probe_memory(&f, path, cases[i].wanted, cases[i].floor);
        (void)only(&f, cases[i].state, cases[i].part);
    }
    _cleanup_free_ char *odd = put("odd", "MemFree: many\n");
    Findings f = {0};
    probe_memory(&f, odd, 1, 1);
    (void)only(&f, FINDING_NOTE, "does not say");
    f = (Findings){0};
    probe_memory(&f, "/nonexistent", 1, 1);
    (void)only(&f, FINDING_NOTE, "/nonexistent");
}

static void pages_are_counted(void **state) {
    static const struct {
        const char *pages;
        uint64_t held;
        FindingState state;
        const char *part;
    } cases[] = {{"{\"needed\":5,\"free\":9,\"reserved\":4,\"surplus\":0,\"overcommit\":0}", 0,
                         FINDING_OK, "5 of 2 MiB are to be had, 5 are needed"},
            {"{\"needed\":6,\"free\":9,\"reserved\":4,\"surplus\":2,\"overcommit\":2}", 0,
                    FINDING_NOTE, "5 of 2 MiB are to be had, 6 are needed"},
            {"{\"needed\":6,\"free\":0,\"reserved\":0,\"surplus\":1,\"overcommit\":4}", 3,
                    FINDING_OK, "3 of 2 MiB are to be had, 3 are needed"},
            {"{\"needed\":6}", 6, FINDING_OK, "the weights have their 6"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Findings f = {0};
        _cleanup_json_ json_t *j = json_loads(cases[i].pages, 0, NULL);
        probe_huge_pages(&f, j, cases[i].held);
        (void)only(&f, cases[i].state, cases[i].part);
    }
    Findings f = {0};
    probe_huge_pages(&f, NULL, 0);
    (void)only(&f, FINDING_NOTE, "this kernel has none");
}

static void the_encoder_must_be_a_program(void **state) {
    _cleanup_free_ char *path = put("media", "#!/bin/sh\n");
    Findings f = {0};
    probe_media(&f, path);
    (void)only(&f, FINDING_PROBLEM, "is no program");
    assert_int_equal(chmod(path, 0755), 0);
    f = (Findings){0};
    probe_media(&f, path);
    (void)only(&f, FINDING_OK, path);
    f = (Findings){0};
    probe_media(&f, "/nonexistent/preheat-media");
    assert_true(only(&f, FINDING_PROBLEM, "No such file")->advice[0]);
}

static void taken_ports_are_found(void **state) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    _cleanup_free_ char *address = str_format("127.0.0.1:%d", ntohs(a.sin_port));
    Findings f = {0};
    probe_ports(&f, address, true);
    (void)only(&f, FINDING_OK, "is listened on");
    f = (Findings){0};
    probe_ports(&f, address, false);
    (void)only(&f, FINDING_PROBLEM, "is taken");
    assert_int_equal(close(fd), 0);
    f = (Findings){0};
    probe_ports(&f, address, false);
    (void)only(&f, FINDING_OK, "is free");
    f = (Findings){0};
    probe_ports(&f, address, true);
    (void)only(&f, FINDING_PROBLEM, "nobody listens");
    f = (Findings){0};
    probe_ports(&f, "127.0.0.1:99999", false);
    (void)only(&f, FINDING_NOTE, "Invalid argument");
}

static void a_card_is_its_device_files(void **state) {
    _cleanup_free_ char *devices = str_format("%s/dev", dir);
    Findings f = {0};
    probe_card(&f, devices, false);
    (void)only(&f, FINDING_NOTE, "the CPU computes");
    f = (Findings){0};
    probe_card(&f, devices, true);
    (void)only(&f, FINDING_PROBLEM, "nvidiactl");
    assert_int_equal(mkdir(devices, 0755), 0);
    _cleanup_free_ char *control = put("dev/nvidiactl", ""), *first = put("dev/nvidia0", "");
    f = (Findings){0};
    probe_card(&f, devices, true);
    assert_string_equal(only(&f, FINDING_PROBLEM, "nvidia-uvm")->advice, "modprobe nvidia_uvm");
}

static void files_are_read_past_the_cache_or_it_is_said(void **state) {
    _cleanup_free_ char *path = put("small", "x");
    Findings f = {0};
    probe_disk(&f, path, 1);
    assert_int_equal(f.n, 1);
    assert_true(f.item[0].state != FINDING_PROBLEM);
    f = (Findings){0};
    probe_disk(&f, "/nonexistent", 1);
    (void)only(&f, FINDING_NOTE, "/nonexistent");
}

static void programs_are_run_with_limits(void **state) {
    char *text = NULL;
    Err err = {0};
    assert_int_equal(probe_run((const char *const[]){"echo", "hello", NULL}, 100, &text, NULL), 0);
    assert_string_equal(text, "hello\n");
    free(text);
    assert_int_equal(probe_run((const char *const[]){"true", NULL}, 100, &text, NULL), 0);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(probe_run((const char *const[]){"false", NULL}, 100, &text, &err), -ECHILD);
    assert_string_equal(err_text(&err), "'false' ended with status 1");
    assert_int_equal(
            probe_run((const char *const[]){"/nonexistent/p", NULL}, 100, &text, NULL), -ENOENT);
    assert_int_equal(probe_run((const char *const[]){"yes", NULL}, 100, &text, NULL), -EFBIG);
}

/* Root may read everything; what counts is the daemon's user. */
static void files_are_opened_as_another_user(void **state) {
    if (geteuid() != 0)
        skip();
    _cleanup_free_ char *path = put("model", "weights");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(probe_open_as("root", path), 0);
    assert_int_equal(probe_open_as("nobody", path), -EACCES);
    assert_int_equal(probe_open_as("root", "/nonexistent/model"), -ENOENT);
    assert_int_equal(probe_open_as("no such user", path), 0);
}

static void findings_are_printed_and_counted(void **state) {
    Findings f = {0};
    for (int i = 0; i < FINDINGS_MAX + 3; i++)
        findings_add(&f, "disk", i % 2 ? FINDING_NOTE : FINDING_OK, i % 2 ? "buy one" : NULL,
                "it is %d\x1b", i);
    assert_int_equal(f.n, FINDINGS_MAX);
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    findings_print(&f, 0, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "ok       disk         it is 0?\n"));
    assert_non_null(strstr(text, "note     disk         it is 1? -> buy one\n"));
    assert_non_null(strstr(text, "48 checks, 0 problems, 23 notes\n"));
    free(text);
    _cleanup_json_ json_t *j = findings_json(&f);
    assert_int_equal(json_array_size(j), FINDINGS_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(memory_is_held_against_the_weights),
            cmocka_unit_test(pages_are_counted),
            cmocka_unit_test(the_encoder_must_be_a_program),
            cmocka_unit_test(taken_ports_are_found),
            cmocka_unit_test(a_card_is_its_device_files),
            cmocka_unit_test(files_are_read_past_the_cache_or_it_is_said),
            cmocka_unit_test(programs_are_run_with_limits),
            cmocka_unit_test(files_are_opened_as_another_user),
            cmocka_unit_test(findings_are_printed_and_counted),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
