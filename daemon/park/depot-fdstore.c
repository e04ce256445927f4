#include "park/depot.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/fdstore.h"

#define SETTLE_USEC (2 * USEC_PER_SEC)

/* They came with the sockets; systemd has copies of its own. */
static int fetch(const Depot *d, int ret_fd[static DEPOT_MAX], bool *ret_any, Err *err) {
    for (size_t i = 0; i < DEPOT_MAX; i++)
        ret_fd[i] = TAKE_FD(d->listen->parked[i]);
    *ret_any = d->listen->has_parked;
    return 0;
}

static int put(const Depot *d, size_t i, int fd, Err *err) {
    char name[LISTEN_PARKED_NAME_SIZE];
    return fdstore_put(listen_parked_name(i, name), fd, err);
}

static int forget(const Depot *d, size_t n, Err *err) {
    char name[LISTEN_PARKED_NAME_SIZE];
    for (size_t i = 0; i < n; i++)
        fdstore_remove(listen_parked_name(i, name));
    return fdstore_settle(SETTLE_USEC, err);
}

const DepotKind depot_fdstore = {.fetch = fetch, .put = put, .forget = forget};
