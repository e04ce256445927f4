/* keeper - descriptors handed to preheat-keeper and taken back from it, by name: the client's side.
 *
 * The keeper is there for systemd before 254, which would close a service's stored descriptors with
 * its idle exit (service/fdstore.h). Each call is a connection of its own; the first one starts the
 * keeper through its socket. Any thread. */
#ifndef PREHEAT_KEEPER_KEEPER_H
#define PREHEAT_KEEPER_KEEPER_H

#include "base/err.h"
#include "keeper/wire.h"

/* Where preheat-keeper.socket listens. */
#define KEEPER_SOCKET "/run/preheat/keeper.sock"

typedef struct KeeperSet {
    size_t n;
    int fd[WIRE_MAX_KEPT]; /* the caller's */
    char name[WIRE_MAX_KEPT][WIRE_NAME_SIZE];
} KeeperSet;

/* keeper_is_running - without waking it. Beside PATH.sock, its unit has the directory PATH for as
 * long as it runs; where the path has another end, it counts as running. */
bool keeper_is_running(const char *path);

/* keeper_store - hands over a copy; fd stays the caller's.
 *
 * All of these return 0; -ETIMEDOUT after five seconds; -EPROTO for an answer that is none; what
 * the keeper says (wire.h); negative errno of the socket calls. */
int keeper_store(const char *path, const char *name, int fd, Err *err);

/* keeper_remove - closes the one of this name, or all where name is NULL; on return they are
 * closed. ret_n may be NULL. */
int keeper_remove(const char *path, const char *name, size_t *ret_n, Err *err);

/* keeper_count - how many are held. */
int keeper_count(const char *path, size_t *ret_n, Err *err);

/* keeper_fetch - copies of all; the keeper has them still. */
int keeper_fetch(const char *path, KeeperSet *ret, Err *err);

#endif
