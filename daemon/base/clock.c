#include "base/clock.h"

#include <assert.h>
#include <time.h>

static struct timespec now(clockid_t id) {
    struct timespec ts;
    int r = clock_gettime(id, &ts);
    assert(r == 0);
    return ts;
}

uint64_t clock_usec(void) {
    struct timespec ts = now(CLOCK_MONOTONIC);
    return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

int64_t clock_unix_sec(void) {
    return now(CLOCK_REALTIME).tv_sec;
}

uint64_t clock_deadline(uint64_t timeout_usec) {
    uint64_t t = clock_usec();
    return timeout_usec > USEC_INFINITY - t ? USEC_INFINITY : t + timeout_usec;
}

uint64_t clock_left(uint64_t deadline_usec) {
    if (deadline_usec == USEC_INFINITY)
        return USEC_INFINITY;
    uint64_t t = clock_usec();
    return deadline_usec > t ? deadline_usec - t : 0;
}
