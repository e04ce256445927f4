#include "ctl/signals.h"

#include "base/clock.h"

#include <time.h>

void signals_open(Signals *s) {
    s->came = false;
    (void)sigemptyset(&s->waited);
    (void)sigaddset(&s->waited, SIGINT);
    (void)sigaddset(&s->waited, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &s->waited, &s->before);
}

void signals_close(Signals *s) {
    (void)sigprocmask(SIG_SETMASK, &s->before, NULL);
}

bool signals_wait(Signals *s, uint64_t usec) {
    struct timespec ts = {
            .tv_sec = (time_t)(usec / USEC_PER_SEC),
            .tv_nsec = (long)(usec % USEC_PER_SEC * 1000),
    };
    if (!s->came && sigtimedwait(&s->waited, NULL, &ts) > 0)
        s->came = true;
    return s->came;
}

bool signals_came(void *context) {
    return signals_wait(context, 0);
}
