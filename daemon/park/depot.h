/* depot - where the descriptors of parked weights lie while no daemon runs: in systemd's store for
 * the service (254 or later), else with preheat-keeper.
 *
 * Number 0 is the set's head, i + 1 its piece i. One thread, but for depot_forget(): any. */
#ifndef PREHEAT_PARK_DEPOT_H
#define PREHEAT_PARK_DEPOT_H

#include "park/park.h"
#include "service/listen.h"

#include <stdbool.h>

enum { DEPOT_MAX = PARK_MAX_PIECES + 1 };
static_assert((int)DEPOT_MAX == (int)LISTEN_MAX_PARKED, "a head and its pieces");

typedef struct Depot Depot;

/* What each of the two does; the functions below say what is asked of it. */
typedef struct DepotKind {
    int (*fetch)(const Depot *d, int ret_fd[static DEPOT_MAX], bool *ret_any, Err *err);
    int (*put)(const Depot *d, size_t i, int fd, Err *err);
    int (*forget)(const Depot *d, size_t n, Err *err);
} DepotKind;

struct Depot {
    const DepotKind *kind;
    size_t room;        /* descriptors that may lie there; 0: none */
    Listen *listen;     /* borrowed; for systemd's store */
    const char *socket; /* borrowed; for the keeper */
};

extern const DepotKind depot_fdstore, depot_keeper;

/* depot_choose - systemd's store where there is one, else the keeper at `socket`, which may be NULL
 * or "": none. Both arguments must outlive ret. */
void depot_choose(Depot *ret, Listen *listen, const char *socket);

/* depot_fetch - copies of what lies there, the caller's, -1 where there is none.
 *
 *   ret_any  something was there, maybe under names of no use
 *
 * On failure nothing is known of what lies there. */
int depot_fetch(const Depot *d, int ret_fd[static DEPOT_MAX], bool *ret_any, Err *err);

/* depot_put - a copy of fd, which stays the caller's; what had the number is closed. */
int depot_put(const Depot *d, size_t i, int fd, Err *err);

/* depot_forget - closes at least all numbers below n, and returns when that is done, so that the
 * device has the memory back. -ETIMEDOUT: it may not be. */
int depot_forget(const Depot *d, size_t n, Err *err);

#endif
