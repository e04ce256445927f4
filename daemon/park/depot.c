#include "park/depot.h"

#include "keeper/wire.h"
#include "service/fdstore.h"

void depot_choose(Depot *ret, Listen *listen, const char *socket) {
    size_t room = fdstore_room();
    bool keeper = room == 0 && socket && socket[0];
    *ret = (Depot){
            .kind = keeper ? &depot_keeper : &depot_fdstore,
            .room = keeper ? (size_t)WIRE_MAX_KEPT : room,
            .listen = listen,
            .socket = socket,
    };
}

int depot_fetch(const Depot *d, int ret_fd[static DEPOT_MAX], bool *ret_any, Err *err) {
    for (size_t i = 0; i < DEPOT_MAX; i++)
        ret_fd[i] = -1;
    *ret_any = false;
    return d->kind->fetch(d, ret_fd, ret_any, err);
}

int depot_put(const Depot *d, size_t i, int fd, Err *err) {
    assert(i < DEPOT_MAX);
    return d->kind->put(d, i, fd, err);
}

int depot_forget(const Depot *d, size_t n, Err *err) {
    assert(n <= DEPOT_MAX);
    return n > 0 ? d->kind->forget(d, n, err) : 0;
}
