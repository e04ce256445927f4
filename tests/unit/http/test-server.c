#include "test.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/macro.h"
#include "http/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void describe(void *context, HttpService *ret) {
    *ret = (HttpService){.phase = "starting", .percent = 40, .reason = "starting"};
}

static int listening(struct sockaddr_in *ret) {
    socklen_t n = sizeof(*ret);
    *ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)ret, n), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &n), 0);
    return fd;
}

static int ask(const struct sockaddr_in *a) {
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)a, sizeof(*a)), 0);
    assert_int_equal(io_write_all(fd, request, sizeof(request) - 1), 0);
    return fd;
}

/* Runs the server until fd has something to read; the answer's first bytes. */
static void answer_of(HttpServer *s, int fd, char text[static 64]) {
    struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = http_server_fd(s), .events = POLLIN}};
    while (!p[0].revents) {
        assert_true(poll(p, 2, 5000) > 0);
        http_server_run(s);
    }
    ssize_t n = read(fd, text, 63);
    assert_true(n > 0);
    text[n] = '\0';
}

static HttpServer *server_on(const int *fds, size_t n) {
    HttpServerOptions o = {.fds = fds, .n_fds = n, .describe = describe};
    HttpServer *s = NULL;
    assert_int_equal(http_server_new(&o, &s, NULL), 0);
    return s;
}

static bool still_listens(int fd) {
    int listens = 0;
    socklen_t n = sizeof(listens);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) == 0 && listens;
}

/* Two instances one after the other on one socket, as systemd starts them; a client that comes in
 * between is served by the second. */
static void socket_outlives_the_server(void **state) {
    struct sockaddr_in a;
    char text[64];
    int fd = listening(&a);
    HttpServer *s = server_on(&fd, 1);
    int client = ask(&a);
    answer_of(s, client, text);
    assert_memory_equal(text, "HTTP/1.1 503", 12);
    http_server_quiesce(s);
    int late = ask(&a);
    http_server_run(s);
    assert_true(still_listens(fd));
    s = http_server_free(s);
    assert_true(still_listens(fd));
    (void)close(client);

    s = server_on(&fd, 1);
    answer_of(s, late, text);
    assert_memory_equal(text, "HTTP/1.1 503", 12);
    (void)close(late);
    s = http_server_free(s);
    assert_true(still_listens(fd));
    (void)close(fd);
}

static void quiesced_server_serves_open_connections(void **state) {
    struct sockaddr_in a;
    char text[64];
    int fd = listening(&a);
    HttpServer *s = server_on(&fd, 1);
    int client = ask(&a);
    answer_of(s, client, text);
    http_server_quiesce(s);
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    while (recv(client, text, sizeof(text), MSG_DONTWAIT) > 0) {
    }
    assert_int_equal(io_write_all(client, request, sizeof(request) - 1), 0);
    answer_of(s, client, text);
    assert_memory_equal(text, "HTTP/1.1 503", 12);
    (void)close(client);
    s = http_server_free(s);
    (void)close(fd);
}

static void looking_is_no_activity(void **state) {
    struct sockaddr_in a;
    char text[64];
    int fd = listening(&a);
    HttpServer *s = server_on(&fd, 1);
    uint64_t began = http_server_last_activity(s);
    assert_true(began <= clock_usec());
    assert_int_equal(http_server_connections(s), 0);
    assert_true(http_server_timeout(s) == USEC_INFINITY);
    int client = ask(&a);
    answer_of(s, client, text);
    assert_true(http_server_last_activity(s) == began);
    assert_int_equal(http_server_connections(s), 0); /* it only looked */
    assert_true(http_server_timeout(s) <= HTTP_IDLE_CONNECTION_USEC);
    (void)close(client);
    s = http_server_free(s);
    (void)close(fd);
}

static void what_is_no_socket_is_refused(void **state) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    HttpServerOptions o = {.fds = fds, .n_fds = 1, .describe = describe};
    HttpServer *s = NULL;
    Err err = {0};
    assert_int_equal(http_server_new(&o, &s, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), "is not a listening socket"));
    (void)close(fds[0]);
    (void)close(fds[1]);
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(socket_outlives_the_server),
            cmocka_unit_test(quiesced_server_serves_open_connections),
            cmocka_unit_test(looking_is_no_activity),
            cmocka_unit_test(what_is_no_socket_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
