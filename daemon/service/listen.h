/* listen - the listening sockets and the weights that systemd hands over, or sockets of our own.
 *
 * Descriptors come in an order that changes between starts, hence are found by FileDescriptorName=:
 * "http" (TCP), "api" (unix), "weights" (a regular file, read-only), "parked-N" (what fdstore.h
 * kept for us; a number that is too large or comes twice is closed, not refused). Sockets without a
 * name (as systemd-socket-activate passes them by default) are told apart by their family. The
 * caller must not shutdown() an inherited socket: systemd owns it and would fail the unit. */
#ifndef PREHEAT_SERVICE_LISTEN_H
#define PREHEAT_SERVICE_LISTEN_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { LISTEN_MAX = 8, LISTEN_MAX_PARKED = 251 };

/* The name of the i-th parked descriptor: "parked-0", ... */
enum { LISTEN_PARKED_NAME_SIZE = 16 };
const char *listen_parked_name(size_t i, char text[static LISTEN_PARKED_NAME_SIZE]);

/* listen_parked_number - of such a name; -1 for any other one. */
int listen_parked_number(const char *name);

typedef struct Listen {
    int http[LISTEN_MAX], n_http; /* bound, listening, non-blocking, close-on-exec */
    int api[LISTEN_MAX], n_api;
    int weights;                   /* -1 when none was handed over */
    int parked[LISTEN_MAX_PARKED]; /* by number, -1 where there is none; nothing is known of them
                                    * but their name */
    bool has_parked;               /* some came, maybe under names of no use */
    bool inherited;    /* sockets came from systemd, hence a client may connect while we are away */
    char *unlink_path; /* unix socket of our own, removed by listen_done(); NULL when none */
} Listen;

void listen_init(Listen *l);

/* listen_done - closes what is open and removes our own unix socket. */
void listen_done(Listen *l);

/* listen_close_parked - closes the parked descriptors. */
void listen_close_parked(Listen *l);

/* listen_inherit - takes over what systemd passed; nothing passed is no failure.
 *
 * Unsets $LISTEN_FDS and its kin, so children do not see them. Returns the number of sockets taken
 * (0: none); -EPROTO for a descriptor of the wrong kind or with a name that is not known. */
int listen_inherit(Listen *l, Err *err);

/* listen_open - adds a socket of our own.
 *
 *   where  "127.0.0.1:8484", "[::1]:8484" or an absolute path. Only loopback addresses: the
 *          interface has no TLS.
 *
 * A unix socket that nobody listens on any more is replaced. Returns 0; -EINVAL; -EADDRINUSE when
 * somebody listens there; negative errno of socket calls. */
int listen_open(Listen *l, const char *where, Err *err);

#endif
