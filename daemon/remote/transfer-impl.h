/* transfer-impl - one libcurl handle, serving one request after the other. */
#ifndef PREHEAT_REMOTE_TRANSFER_IMPL_H
#define PREHEAT_REMOTE_TRANSFER_IMPL_H

#include "remote/location.h"
#include "remote/remote.h"
#include "remote/reply.h"

#include <curl/curl.h>

/* What all handles of one source share. */
typedef struct TransferSettings {
    Location location;
    char *ca_file, *token, *user, *password, *signing; /* "": none */
    struct curl_slist *headers;
    uint64_t bandwidth_bytes, connect_timeout_usec, stall_timeout_usec;
} TransferSettings;

typedef struct Transfer {
    CURL *curl;
    const TransferSettings *settings;
    RemoteGet *get; /* NULL: idle */
    char *address;
    Reply reply;
    bool checked;      /* the answer's head */
    int refused;       /* the body is not taken; why is in get->err */
    uint64_t skip;     /* bytes of the body before the next one wanted */
    uint64_t received; /* of all bodies */
    char text[CURL_ERROR_SIZE];
} Transfer;

int transfer_init(Transfer *t, const TransferSettings *s, Err *err);
void transfer_done(Transfer *t);

/* transfer_begin - sets the handle up for what is missing of the request. Returns 0 or -ENOMEM. */
int transfer_begin(Transfer *t, RemoteGet *g);

/* transfer_end - what became of it is in the request's result and err; t is idle.
 *
 *   ret_pause_usec  what the server asks for before the next attempt
 *
 * Returns 0 when it is over, TRANSFER_PASSING when another attempt may end better. */
enum { TRANSFER_PASSING = 1 };
int transfer_end(Transfer *t, CURLcode code, uint64_t *ret_pause_usec);

#endif
