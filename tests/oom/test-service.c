/* Loop with each kind of source, idle time, watchdog, sockets of our own. */
#include "oom.h"

#include "base/cleanup.h"
#include "service/idle.h"
#include "service/listen.h"
#include "service/loop.h"
#include "service/watchdog.h"

#include <signal.h>
#include <string.h>

DEFINE_CLEANUP(Loop, loop_free)
DEFINE_CLEANUP(LoopSource, loop_source_free)
DEFINE_CLEANUP(Idle, idle_free)
DEFINE_CLEANUP(Watchdog, watchdog_free)

static void nothing(void *context, uint32_t events) {}

static int make_all(void *context, Err *err) {
    _cleanup_(loop_freep) Loop *l = NULL;
    _cleanup_(loop_source_freep) LoopSource *fd = NULL, *timer = NULL, *sig = NULL, *wake = NULL;
    _cleanup_(idle_freep) Idle *idle = NULL;
    _cleanup_(watchdog_freep) Watchdog *watchdog = NULL;
    _cleanup_(listen_done) Listen listen;
    listen_init(&listen);
    int r = loop_new(&l, err);
    if (r == 0)
        r = listen_open(&listen, "127.0.0.1:0", err);
    if (r == 0)
        r = loop_add_fd(l, listen.http[0], EPOLLIN, nothing, NULL, &fd, err);
    if (r == 0)
        r = loop_add_timer(l, nothing, NULL, &timer, err);
    if (r == 0)
        r = loop_add_signal(l, SIGHUP, nothing, NULL, &sig, err);
    if (r == 0)
        r = loop_add_wake(l, nothing, NULL, &wake, err);
    if (r == 0)
        r = idle_new(l, 1000, nothing, NULL, &idle, err);
    if (r == 0)
        r = watchdog_new(l, NULL, NULL, &watchdog, err);
    return r;
}

int main(void) {
    (void)setenv("WATCHDOG_USEC", "1000000", 1);
    oom_count_up("loop, idle, watchdog, listen", make_all, NULL, 8);
    return 0;
}
