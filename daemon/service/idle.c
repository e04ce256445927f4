#include "service/idle.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

struct Idle {
    LoopSource *timer;
    uint64_t timeout_usec;
    int n_holders;
};

int idle_new(Loop *l, uint64_t timeout_usec, LoopFunc *func, void *context, Idle **ret, Err *err) {
    Idle *i = calloc(1, sizeof(*i));
    if (!i)
        return err_set(err, -ENOMEM, "no memory for the idle timer");
    i->timeout_usec = timeout_usec ? timeout_usec : USEC_INFINITY;
    int r = loop_add_timer(l, func, context, &i->timer, err);
    if (r < 0) {
        free(i);
        return r;
    }
    idle_touch(i);
    *ret = i;
    return 0;
}

Idle *idle_free(Idle *i) {
    if (!i)
        return NULL;
    (void)loop_source_free(i->timer);
    free(i);
    return NULL;
}

void idle_touch(Idle *i) {
    loop_timer_set(i->timer, i->n_holders ? USEC_INFINITY : i->timeout_usec);
}

void idle_hold(Idle *i) {
    i->n_holders++;
    idle_touch(i);
}

void idle_release(Idle *i) {
    assert(i->n_holders > 0);
    i->n_holders--;
    idle_touch(i);
}
