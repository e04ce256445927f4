#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "service/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { FIRST = 3 }; /* SD_LISTEN_FDS_START */

/* Runs body in a child with descriptors 3.. as systemd would pass them: the test's own
 * descriptors live there too. */
static void in_child(void (*body)(void), const char *names, int n, int (*make[])(void)) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        closefrom(FIRST);
        for (int i = 0; i < n; i++)
            if (make[i]() != FIRST + i)
                _exit(99);
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", getpid());
        (void)setenv("LISTEN_PID", text, 1);
        (void)snprintf(text, sizeof(text), "%d", n);
        (void)setenv("LISTEN_FDS", text, 1);
        if (names)
            (void)setenv("LISTEN_FDNAMES", names, 1);
        body();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define CHECK(e)                                                                                   \
    do {                                                                                           \
        if (!(e)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #e);                                \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static int make_tcp(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0 ? -1
                                                                                           : fd;
}

static int make_unix(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 || listen(fd, 1) < 0 ? -1
                                                                                               : fd;
}

static int make_tcp_client(void) {
    return socket(AF_INET, SOCK_STREAM, 0);
}

static int make_file(void) {
    return open("/etc/passwd", O_RDONLY);
}

static int make_writable_file(void) {
    return open("/tmp", O_RDWR | O_TMPFILE, 0600);
}

static void expect_both(void) {
    Listen l;
    listen_init(&l);
    CHECK(listen_inherit(&l, NULL) == 2);
    CHECK(l.inherited && l.n_http == 1 && l.n_api == 1);
    CHECK(l.http[0] == 4 && l.api[0] == 3 && l.weights == 5);
    CHECK(fcntl(l.http[0], F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(l.http[0], F_GETFD) & FD_CLOEXEC);
    CHECK(!getenv("LISTEN_FDS"));
    listen_done(&l);
    CHECK(fcntl(4, F_GETFD) < 0);
}

static void found_by_name_in_any_order(void **state) {
    int (*make[])(void) = {make_unix, make_tcp, make_file};
    in_child(expect_both, "api:http:weights", 3, make);
}

static void expect_parked(void) {
    Listen l;
    listen_init(&l);
    CHECK(!l.has_parked && l.parked[0] == -1);
    CHECK(listen_inherit(&l, NULL) == 1);
    CHECK(l.has_parked && l.parked[0] == 4 && l.parked[250] == 3);
    CHECK(l.parked[1] == -1 && l.n_http == 1);
    for (int fd = 6; fd < 9; fd++) /* twice the same, out of range, no number */
        CHECK(fcntl(fd, F_GETFD) < 0);
    listen_close_parked(&l);
    CHECK(fcntl(3, F_GETFD) < 0 && fcntl(4, F_GETFD) < 0 && fcntl(5, F_GETFD) >= 0);
    char name[LISTEN_PARKED_NAME_SIZE];
    CHECK(str_eq(listen_parked_name(250, name), "parked-250"));
    listen_done(&l);
}

static void parked_descriptors_are_numbered(void **state) {
    int (*make[])(void) = {
            make_file, make_writable_file, make_tcp, make_file, make_file, make_file};
    in_child(expect_parked, "parked-250:parked-0:http:parked-0:parked-251:parked-x", 6, make);
}

static void expect_by_family(void) {
    Listen l;
    listen_init(&l);
    CHECK(listen_inherit(&l, NULL) == 2);
    CHECK(l.n_http == 1 && l.n_api == 1 && l.http[0] == 4 && l.api[0] == 3);
    listen_done(&l);
}

static void nameless_sockets_go_by_family(void **state) {
    int (*make[])(void) = {make_unix, make_tcp};
    in_child(expect_by_family, NULL, 2, make);
    in_child(expect_by_family, "unknown:unknown", 2, make);
}

static const char *wanted;

static void expect_refusal(void) {
    Listen l;
    Err err = {0};
    listen_init(&l);
    CHECK(listen_inherit(&l, &err) == -EPROTO);
    if (!str_eq(err_text(&err), wanted)) {
        fprintf(stderr, "found '%s'\nwanted '%s'\n", err_text(&err), wanted);
        _exit(1);
    }
    listen_done(&l);
    CHECK(fcntl(3, F_GETFD) < 0); /* nothing is leaked */
}

static void wrong_kinds_are_refused(void **state) {
    static const struct {
        int (*make)(void);
        const char *name, *sentence;
    } cases[] = {
            {make_unix, "http", "inherited descriptor 3 'http' is not a listening TCP socket"},
            {make_tcp, "api", "inherited descriptor 3 'api' is not a listening unix stream socket"},
            {make_tcp_client, "http",
                    "inherited descriptor 3 'http' is not a listening TCP socket"},
            {make_tcp, "weights", "inherited descriptor 3 'weights' is not the one read-only file"},
            {make_writable_file, "weights",
                    "inherited descriptor 3 'weights' is not the one read-only file"},
            {make_tcp, "ssh",
                    "inherited descriptor 3 is named 'ssh', known are http, api, weights"},
            {make_file, "unknown",
                    "inherited descriptor 3 is named 'unknown', known are http, api, weights"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int (*make[])(void) = {cases[i].make};
        wanted = cases[i].sentence;
        in_child(expect_refusal, cases[i].name, 1, make);
    }
}

static void nothing_passed_is_none(void **state) {
    Listen l;
    listen_init(&l);
    assert_int_equal(listen_inherit(&l, NULL), 0);
    assert_false(l.inherited);
    listen_done(&l);
}

static void own_sockets_on_loopback(void **state) {
    Listen l;
    listen_init(&l);
    Err err = {0};
    if (listen_open(&l, "127.0.0.1:0", &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(l.n_http, 1);
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    assert_int_equal(getsockname(l.http[0], (struct sockaddr *)&address, &len), 0);

    Listen second;
    listen_init(&second);
    _cleanup_free_ char *where = str_format("127.0.0.1:%d", ntohs(address.sin_port));
    assert_int_equal(listen_open(&second, where, &err), -EADDRINUSE);
    listen_done(&second);
    listen_done(&l);
}

static void bad_addresses_are_refused(void **state) {
    static const struct {
        const char *where, *sentence;
    } cases[] = {
            {"8484", "'8484' is not an address like 127.0.0.1:8484, [::1]:8484 or /path"},
            {"", "'' is not an address like 127.0.0.1:8484, [::1]:8484 or /path"},
            {"127.0.0.1:70000",
                    "'127.0.0.1:70000' is not an address like 127.0.0.1:8484, [::1]:8484 or /path"},
            {"[]:1", "'[]:1' is not an address like 127.0.0.1:8484, [::1]:8484 or /path"},
            {"[::1:1", "'[::1:1' is not an address like 127.0.0.1:8484, [::1]:8484 or /path"},
            {"localhost:1", "'localhost' in 'localhost:1' is not a numeric address"},
            {"0.0.0.0:1", "'0.0.0.0:1' is not a loopback address; to serve a network, put a proxy "
                          "with TLS in front"},
            {"[::]:1", "'[::]:1' is not a loopback address; to serve a network, put a proxy with "
                       "TLS in front"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Listen l;
        Err err = {0};
        listen_init(&l);
        assert_int_equal(listen_open(&l, cases[i].where, &err), -EINVAL);
        assert_string_equal(err_text(&err), cases[i].sentence);
        listen_done(&l);
    }
    char path[200];
    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    Listen l;
    listen_init(&l);
    assert_int_equal(listen_open(&l, path, NULL), -EINVAL);
}

static void unix_socket_replaces_a_dead_one_only(void **state) {
    char directory[] = "/tmp/preheat-listen-XXXXXX";
    assert_non_null(mkdtemp(directory));
    _cleanup_free_ char *path = str_format("%s/api.sock", directory);

    Listen l, second;
    listen_init(&l);
    listen_init(&second);
    assert_int_equal(listen_open(&l, path, NULL), 0);
    Err err = {0};
    assert_int_equal(listen_open(&second, path, &err), -EADDRINUSE);
    assert_int_equal(access(path, F_OK), 0);

    free(TAKE_PTR(l.unlink_path)); /* as if it had been killed */
    listen_done(&l);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(listen_open(&second, path, NULL), 0);
    listen_done(&second);
    assert_true(access(path, F_OK) < 0);

    err_clear(&err);
    assert_int_equal(io_write_file(AT_FDCWD, path, "x", 1, 0600, NULL), 0);
    assert_int_equal(listen_open(&second, path, &err), -EADDRINUSE); /* a file stays */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(found_by_name_in_any_order),
            cmocka_unit_test(nameless_sockets_go_by_family),
            cmocka_unit_test(wrong_kinds_are_refused),
            cmocka_unit_test(nothing_passed_is_none),
            cmocka_unit_test(own_sockets_on_loopback),
            cmocka_unit_test(bad_addresses_are_refused),
            cmocka_unit_test(parked_descriptors_are_numbered),
            cmocka_unit_test(unix_socket_replaces_a_dead_one_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
