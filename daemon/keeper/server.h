/* server - answers the keeper's clients, one request after the other, until nothing is held.
 *
 * One thread. The peer is known by SO_PEERCRED: root and the user that the keeper runs as. More is
 * not asked of it: whoever has that user could take the descriptors from preheatd as well. */
#ifndef PREHEAT_KEEPER_SERVER_H
#define PREHEAT_KEEPER_SERVER_H

#include "base/clock.h"
#include "base/err.h"
#include "keeper/backup.h"
#include "keeper/shelf.h"

/* Further clients wait in the socket. */
enum { SERVER_MAX_CLIENTS = 8 };

/* A client needs one round trip for each descriptor; what is silent for longer has stopped. */
#define SERVER_CLIENT_USEC (10 * USEC_PER_SEC)

/* For what is held to be told once it no longer changes. */
#define SERVER_QUIET_USEC (1 * USEC_PER_SEC)

typedef struct ServerOptions {
    int listen_fd;        /* borrowed; made non-blocking */
    uid_t uid;            /* who may use it beside root */
    uint64_t idle_usec;   /* with nothing held and no client: the end */
    uint64_t client_usec; /* for a client that is silent: its end */
    const Backup *backup;
    void (*tell)(int priority, const char *text); /* a line for the journal */
} ServerOptions;

/* server_run - returns 0 when idle, s being empty; negative errno of poll. */
int server_run(const ServerOptions *o, Shelf *s, Err *err);

#endif
