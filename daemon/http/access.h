/* access - who may talk to us: token, peer, host name and origin. */
#ifndef PREHEAT_HTTP_ACCESS_H
#define PREHEAT_HTTP_ACCESS_H

#include "base/err.h"

#include <stdbool.h>

/* What a connection's socket says. */
typedef struct HttpPeer {
    bool is_unix;
    bool local_loopback; /* TCP: our end is a loopback address */
    char name[56];       /* who it is as quotas count: "uid 1000", "loopback", "address ..."; empty:
                          * unknown */
} HttpPeer;

int http_peer_of(int fd, HttpPeer *ret);

typedef struct HttpAccess {
    const char *token; /* NULL: none */
    const char *hosts; /* names with spaces between, or NULL */
} HttpAccess;

/* The headers that decide; NULL where absent. */
typedef struct HttpCredentials {
    const char *authorization, *host, *origin;
} HttpCredentials;

/* http_access_check - token_needed is false for what load balancers ask.
 *
 * TCP on a loopback address: the Host must be a name of the loopback or in hosts, and so must the
 * Origin be; a web page whose name was made to point at 127.0.0.1 has neither. Anywhere: an Origin
 * other than the Host is refused. Unix: the socket's mode has decided already.
 *
 * Returns 0; -EPERM; -EKEYREJECTED. */
int http_access_check(const HttpAccess *a, const HttpPeer *peer, const HttpCredentials *c,
        bool token_needed, Err *err);

#endif
