/* remote - bytes of files on a web server or in an object store, many requests under way at once.
 *
 * Through libcurl: http and https only, certificates checked, redirects to the same (from https to
 * https only), at most 5. What breaks off is taken up where it broke; what may pass is tried again
 * after a pause that doubles, or after what Retry-After asks for. One owner: all calls from one
 * thread. */
#ifndef PREHEAT_REMOTE_REMOTE_H
#define PREHEAT_REMOTE_REMOTE_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { REMOTE_MAX_CONNECTIONS = 64 };

/* Texts are borrowed for remote_new() only; "" or NULL: none. */
typedef struct RemoteOptions {
    const char *source;            /* see location.h */
    const char *endpoint, *region; /* of an object store */
    const char *ca_file;           /* instead of the system's certificates */
    const char *token;             /* Authorization: Bearer; never sent to another host */
    const char *key_id, *key_secret, *key_session; /* of an object store: AWS signature version 4 */
    int connections;
    uint64_t bandwidth_bytes; /* a second, of all together: one connection then; 0: no limit */
    uint64_t connect_timeout_usec;
    uint64_t stall_timeout_usec; /* this long below 1 KiB/s: broken off */
    int retries;                 /* of one request without getting further */
    uint64_t retry_delay_usec;   /* before the first, doubled each time up to a minute */
} RemoteOptions;

typedef struct Remote Remote;

/* remote_new - connects to nothing yet.
 *
 * Returns 0; -EINVAL for a source that cannot be used; -EPERM for a token that would leave this
 * machine unencrypted; -ENOMEM. */
int remote_new(const RemoteOptions *o, Remote **ret, Err *err);

/* remote_free - nothing may be under way, asserted. */
Remote *remote_free(Remote *r);
DEFINE_CLEANUP(Remote, remote_free)

const char *remote_source(const Remote *r); /* as configured, for sentences */

/* remote_received - bytes of bodies so far. */
uint64_t remote_received(const Remote *r);

/* One request. Its owner sets the first part and leaves it alone until it came back. */
typedef struct RemoteGet RemoteGet;
struct RemoteGet {
    const char *path; /* below the source */
    uint64_t offset;
    uint64_t bytes;      /* of the file from offset on; without file_bytes: at most */
    uint64_t file_bytes; /* that the file must have; 0: all of it is asked for, both numbers are
                            then what the first answer says */
    uint64_t not_before; /* clock_usec() */

    /* The bytes in order. A retry goes on behind the last ones; it begins again at 0 where the
     * file's size is still unknown. A negative return ends the request with it, the sentence is in
     * g->err. */
    int (*take)(RemoteGet *g, uint64_t at, const void *data, size_t n);
    void *context;

    int result; /* 0, or negative errno and why, the address first */
    Err err;
    uint64_t done; /* bytes taken */

    int attempts;             /* the rest is the remote's */
    uint64_t done_at_failure; /* how far the best of them came */
    RemoteGet *next;
};

/* remote_submit - any number may be waiting; `connections` of them are served at once.
 *
 * Once a request was given up because the source does not answer, those that wait are given up at
 * once with the same sentence. */
void remote_submit(Remote *r, RemoteGet *g);

/* remote_wait - the next request that is done, well or not, in any order.
 *
 * Results: those of reply_check(), but for -EAGAIN; -EHOSTUNREACH, -EIO after all retries; -EPROTO
 * for redirects and certificates that are not allowed; -EFBIG beyond `bytes`; -ECANCELED.
 *
 * Returns 0; REMOTE_TIMEOUT. Something must be under way, asserted. */
enum { REMOTE_TIMEOUT = 1 };
int remote_wait(Remote *r, uint64_t timeout_usec, RemoteGet **ret);

/* remote_cancel - all that is under way comes back soon, with -ECANCELED. */
void remote_cancel(Remote *r);

#endif
