/* client - one connection to preheatd's HTTP interface, over its unix socket or TCP.
 *
 * One owner, one thread; each call blocks until it is answered. Answers are JSON of limited size.
 * Every function returns 0; CTL_UNREACHABLE; CTL_REFUSED, the server's own words in the sentence;
 * -EPROTO for an answer that is none of preheat's; CTL_INTERRUPTED; -ENOMEM. */
#ifndef PREHEAT_CTL_CLIENT_H
#define PREHEAT_CTL_CLIENT_H

#include "base/cleanup.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CLIENT_SOCKET "/run/preheat/api.sock"

typedef struct Client Client;

typedef struct ClientOptions {
    const char *socket;   /* path of a unix socket; NULL when url is set */
    const char *url;      /* http://host:port, without a path; NULL when socket is set */
    const char *token;    /* sent as bearer token; NULL: none */
    bool (*stop)(void *); /* asked while waiting, true ends the call; NULL: never */
    void *context;
} ClientOptions;

/* Texts are borrowed and must outlive the client. */
int client_new(const ClientOptions *options, Client **ret, Err *err);
Client *client_free(Client *c);
DEFINE_CLEANUP(Client, client_free)

/* client_get, client_delete - path begins with a slash. */
int client_get(Client *c, const char *path, json_t **ret, Err *err);
int client_delete(Client *c, const char *path, json_t **ret, Err *err);

/* client_health - of /healthz; a daemon that says why it cannot work answers, too. */
int client_health(Client *c, json_t **ret, Err *err);

/* A field of a form: text, or the bytes of a file. */
typedef struct ClientPart {
    const char *name;
    const char *text; /* or NULL */
    const char *file; /* path, when text is NULL */
} ClientPart;

int client_post(Client *c, const char *path, const ClientPart *parts, size_t n_parts, json_t **ret,
        Err *err);

/* client_download - the answer's bytes to fd. Negative errno when they cannot be written. */
int client_download(Client *c, const char *path, int fd, Err *err);

#endif
