#include "test.h"

#include "base/clock.h"
#include "service/fdstore.h"
#include "service/loop.h"
#include "service/notify.h"
#include "service/watchdog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int peer = -1; /* systemd's end */

/* An abstract socket needs no cleaning up. */
static int setup(void **state) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    peer = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (peer < 0 || bind(peer, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0)
        return -1;
    socklen_t len = sizeof(address);
    if (getsockname(peer, (struct sockaddr *)&address, &len) < 0)
        return -1;
    char name[sizeof(address.sun_path) + 2] = "@";
    memcpy(name + 1, address.sun_path + 1, len - sizeof(sa_family_t) - 1);
    return setenv("NOTIFY_SOCKET", name, 1);
}

static int teardown(void **state) {
    (void)unsetenv("NOTIFY_SOCKET");
    return close(peer);
}

static const char *received(void) {
    static char text[600];
    ssize_t n = recv(peer, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[n < 0 ? 0 : n] = '\0';
    return text;
}

static void each_call_sends_its_words(void **state) {
    notify_ready();
    assert_string_equal(received(), "READY=1");
    notify_stopping();
    assert_string_equal(received(), "STOPPING=1");
    notify_watchdog();
    assert_string_equal(received(), "WATCHDOG=1");
    notify_extend(5000000);
    assert_string_equal(received(), "EXTEND_TIMEOUT_USEC=5000000");
    notify_reloading();
    assert_memory_equal(received(), "RELOADING=1\nMONOTONIC_USEC=", 27);
}

static void status_stays_one_short_line(void **state) {
    notify_status("%d%% of '%s'", 40, "a\nREADY=1");
    assert_string_equal(received(), "STATUS=40% of 'a READY=1'");
    char text[1000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    notify_status("%s", text);
    assert_int_equal(strlen(received()), 7 + 399);
    /* systemd drops a line that is no UTF-8. */
    memcpy(text + 398, "\xc3\xa9", 2);
    notify_status("%s", text);
    assert_int_equal(received()[7 + 398], '?');
}

static void without_systemd_nothing_happens(void **state) {
    char *name = strdup(getenv("NOTIFY_SOCKET"));
    (void)unsetenv("NOTIFY_SOCKET");
    notify_ready();
    notify_status("x");
    assert_string_equal(received(), "");
    (void)setenv("NOTIFY_SOCKET", name, 1);
    free(name);
}

static bool healthy(void *context) {
    return *(int *)context;
}

static void end(void *context, uint32_t events) {
    loop_exit(context, 0);
}

static int pulses_in_70_ms(int health) {
    Loop *l = NULL;
    LoopSource *timer = NULL;
    Watchdog *w = NULL;
    assert_int_equal(loop_new(&l, NULL), 0);
    assert_int_equal(loop_add_timer(l, end, l, &timer, NULL), 0);
    assert_int_equal(watchdog_new(l, healthy, &health, &w, NULL), 0);
    assert_non_null(w);
    loop_timer_set(timer, 70 * USEC_PER_MSEC);
    assert_int_equal(loop_run(l, NULL), 0);
    (void)watchdog_free(w);
    (void)loop_source_free(timer);
    (void)loop_free(l);
    int n = 0;
    while (strcmp(received(), "WATCHDOG=1") == 0)
        n++;
    return n;
}

static void watchdog_pulses_twice_a_period_while_healthy(void **state) {
    (void)setenv("WATCHDOG_USEC", "40000", 1);
    int n = pulses_in_70_ms(1);
    assert_in_range(n, 2, 4); /* at 0, 20, 40, 60 ms; fewer on a busy machine */
    assert_int_equal(pulses_in_70_ms(0), 0);
    (void)unsetenv("WATCHDOG_USEC");
}

static void no_watchdog_without_the_setting(void **state) {
    Watchdog *w = (Watchdog *)1;
    assert_int_equal(watchdog_new(NULL, NULL, NULL, &w, NULL), 0);
    assert_null(w);
    assert_null(watchdog_free(NULL));
}

/* The descriptor that came with a message, -1 without one; its text in `text`. */
static int receive_fd(char *text, size_t size) {
    union {
        struct cmsghdr align;
        char data[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec io = {text, size - 1};
    struct msghdr m = {.msg_iov = &io,
            .msg_iovlen = 1,
            .msg_control = control.data,
            .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(peer, &m, MSG_DONTWAIT);
    text[n < 0 ? 0 : n] = '\0';
    int fd = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

static void descriptors_are_stored_by_name(void **state) {
    char text[200];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fdstore_put("parked-7", ends[1], NULL), 0);
    close(ends[1]);
    int copy = receive_fd(text, sizeof(text));
    assert_string_equal(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=parked-7");
    assert_int_equal(write(copy, "x", 1), 1);
    assert_int_equal(read(ends[0], text, 1), 1);
    close(copy);
    close(ends[0]);
    fdstore_remove("parked-7");
    assert_string_equal(received(), "FDSTOREREMOVE=1\nFDNAME=parked-7");
    Err err = {0};
    assert_true(fdstore_put("parked-7", 9999, &err) < 0); /* not open */
    assert_non_null(strstr(err_text(&err), "cannot hand over descriptor 'parked-7': "));
}

static void the_store_has_room_where_systemd_says_so(void **state) {
    static const struct {
        const char *text;
        size_t room;
    } cases[] = {{NULL, 0}, {"0", 0}, {"128", 128}, {"many", 0}, {"-1", 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        (void)unsetenv("FDSTORE");
        if (cases[i].text)
            (void)setenv("FDSTORE", cases[i].text, 1);
        assert_int_equal(fdstore_room(), cases[i].room);
    }
    (void)unsetenv("FDSTORE");
    char *socket = strdup(getenv("NOTIFY_SOCKET"));
    (void)unsetenv("NOTIFY_SOCKET");
    assert_int_equal(fdstore_put("parked-0", 0, NULL), -ENOTCONN);
    assert_int_equal(fdstore_settle(1000, NULL), -ENOTCONN);
    (void)setenv("NOTIFY_SOCKET", socket, 1);
    free(socket);
    Err err = {0};
    assert_int_equal(fdstore_settle(1000, &err), -ETIMEDOUT); /* nobody answers */
    assert_non_null(strstr(err_text(&err), "the service manager does not answer"));
    assert_string_equal(received(), "BARRIER=1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(each_call_sends_its_words),
            cmocka_unit_test(status_stays_one_short_line),
            cmocka_unit_test(without_systemd_nothing_happens),
            cmocka_unit_test(watchdog_pulses_twice_a_period_while_healthy),
            cmocka_unit_test(descriptors_are_stored_by_name),
            cmocka_unit_test(the_store_has_room_where_systemd_says_so),
            cmocka_unit_test(no_watchdog_without_the_setting),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
