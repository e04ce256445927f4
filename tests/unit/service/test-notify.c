#include "test.h"

#include "base/clock.h"
#include "service/loop.h"
#include "service/notify.h"
#include "service/watchdog.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(each_call_sends_its_words),
            cmocka_unit_test(status_stays_one_short_line),
            cmocka_unit_test(without_systemd_nothing_happens),
            cmocka_unit_test(watchdog_pulses_twice_a_period_while_healthy),
            cmocka_unit_test(no_watchdog_without_the_setting),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
