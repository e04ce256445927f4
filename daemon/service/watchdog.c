#include "service/watchdog.h"

#include "service/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

struct Watchdog {
    LoopSource *timer;
    uint64_t pulse_usec;
    WatchdogCheck *check;
    void *context;
};

static void on_pulse(void *context, uint32_t events) {
    Watchdog *w = context;
    if (!w->check || w->check(w->context))
        notify_watchdog();
    loop_timer_set(w->timer, w->pulse_usec);
}

int watchdog_new(Loop *l, WatchdogCheck *check, void *context, Watchdog **ret, Err *err) {
    uint64_t period;
    int r = sd_watchdog_enabled(0, &period);
    if (r < 0)
        return err_set(err, r, "$WATCHDOG_USEC: %s", strerror(-r));
    if (r == 0) {
        *ret = NULL;
        return 0;
    }
    Watchdog *w = malloc(sizeof(*w));
    if (!w)
        return err_set(err, -ENOMEM, "no memory for the watchdog");
    *w = (Watchdog){.pulse_usec = period / 2, .check = check, .context = context};
    r = loop_add_timer(l, on_pulse, w, &w->timer, err);
    if (r < 0) {
        free(w);
        return r;
    }
    loop_timer_set(w->timer, 0);
    *ret = w;
    return 0;
}

Watchdog *watchdog_free(Watchdog *w) {
    if (!w)
        return NULL;
    (void)loop_source_free(w->timer);
    free(w);
    return NULL;
}
