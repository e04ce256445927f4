#include "park/depot.h"

#include "keeper/keeper.h"

#include <unistd.h>

/* A keeper that does not run holds nothing, and is not started to be asked. */
static int fetch(const Depot *d, int ret_fd[static DEPOT_MAX], bool *ret_any, Err *err) {
    KeeperSet set;
    if (!keeper_is_running(d->socket))
        return 0;
    int r = keeper_fetch(d->socket, &set, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < set.n; i++) {
        int n = listen_parked_number(set.name[i]);
        if (n >= 0)
            ret_fd[n] = set.fd[i];
        else
            (void)close(set.fd[i]);
    }
    *ret_any = set.n > 0;
    return 0;
}

static int put(const Depot *d, size_t i, int fd, Err *err) {
    char name[LISTEN_PARKED_NAME_SIZE];
    return keeper_store(d->socket, listen_parked_name(i, name), fd, err);
}

/* All of them: nobody else's lie there. */
static int forget(const Depot *d, size_t n, Err *err) {
    return keeper_is_running(d->socket) ? keeper_remove(d->socket, NULL, NULL, err) : 0;
}

const DepotKind depot_keeper = {.fetch = fetch, .put = put, .forget = forget};
