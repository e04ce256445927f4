/* server - the HTTP interface on inherited sockets, one thread, driven by the caller's event loop.
 *
 * Everything here belongs to that thread. The caller watches http_server_fd() for input and calls
 * http_server_run() when it is readable, when http_server_timeout() has passed, and after the job
 * queue's `changed`. SIGPIPE must be ignored by the process: files are sent with sendfile(2).
 * Listening sockets stay the caller's: they are neither shut down nor closed here. */
#ifndef PREHEAT_HTTP_SERVER_H
#define PREHEAT_HTTP_SERVER_H

#include "base/err.h"
#include "job/degrade.h"
#include "job/queue.h"
#include "metrics/metrics.h"
#include "request/request.h"

typedef struct HttpServer HttpServer;

/* What the daemon can say of itself now; asked before a request is answered. Strings are borrowed
 * until the next call. */
typedef struct HttpService {
    const char *model;               /* its name, never a path; NULL: none */
    int64_t model_created;           /* unix seconds; 0: not known */
    const RequestLimits *limits;     /* must be there when accepting or opening */
    const RequestDefaults *defaults; /* must be there when accepting */
    bool accepting;                  /* jobs are taken, be it that they wait for the model */
    bool opening;        /* not yet, but what jobs are held against will be known soon: they wait */
    const char *reason;  /* why not: one sentence for the client */
    int retry_after_sec; /* when it is worth to ask again; 0: says nothing */
    const char *phase;   /* "starting", "loading", "serving", "draining"... */
    int percent;         /* of the start; 100 when serving */
    double start_left_sec;      /* until the first job could begin; negative: unknown */
    const DegradePlan *degrade; /* what a request gets that would wait too long; NULL: waits */
    const char *detail;         /* JSON object of more for /healthz, or NULL */
} HttpService;

typedef struct HttpServerOptions {
    const int *fds; /* listening stream sockets, TCP or unix */
    size_t n_fds;
    JobQueue *jobs; /* NULL: there is no state directory, /v1/videos is 503 with `reason` */
    Metrics *metrics;
    const char *token;             /* NULL: none is asked for on TCP */
    const char *allowed_hosts;     /* Host names besides the loopback's, spaces between; or NULL */
    int max_connections;           /* of each socket; 0: HTTP_MAX_CONNECTIONS */
    uint64_t max_upload_bytes;     /* of all bodies being received; 0: 4 of the largest */
    uint64_t idle_connection_usec; /* without a byte, 0: HTTP_IDLE_CONNECTION_USEC */
    uint64_t upload_usec;          /* for a whole request, 0: HTTP_UPLOAD_USEC */
    uint64_t opening_usec;         /* a job's wait while opening, 0: HTTP_OPENING_USEC */

    void (*describe)(void *context, HttpService *ret);
    /* Last word on a valid request, NULL: none. Returns 0 or negative errno with a sentence;
     * -E2BIG for what does not fit this machine. */
    int (*admit)(void *context, const Request *r, RequestFault *fault, Err *err);
    void *context;
} HttpServerOptions;

#define HTTP_MAX_CONNECTIONS 128
#define HTTP_IDLE_CONNECTION_USEC (UINT64_C(30) * 1000000)
#define HTTP_UPLOAD_USEC (UINT64_C(120) * 1000000)
#define HTTP_OPENING_USEC (UINT64_C(5) * 1000000)

int http_server_new(const HttpServerOptions *options, HttpServer **ret, Err *err);

/* http_server_free - ends open connections; returns NULL, takes NULL. The job queue may be closed
 * already. */
HttpServer *http_server_free(HttpServer *s);

/* http_server_fd - readable when http_server_run() has work; stays the server's. */
int http_server_fd(const HttpServer *s);

/* http_server_run - serves whatever can be served without waiting. */
void http_server_run(HttpServer *s);

/* http_server_timeout - microseconds until http_server_run() must be called, USEC_INFINITY: only
 * when the descriptor is readable. */
uint64_t http_server_timeout(HttpServer *s);

/* http_server_connections - open ones, without those that only ever asked for /healthz and
 * /metrics. */
size_t http_server_connections(const HttpServer *s);

/* http_server_last_activity - clock_usec() of the last request that was not /healthz or /metrics;
 * the start of the server when there was none. */
uint64_t http_server_last_activity(const HttpServer *s);

/* http_server_quiesce - takes no further connections: those wait in the socket's backlog for the
 * next instance. Open ones are served on; answers say "Connection: close". */
void http_server_quiesce(HttpServer *s);

#endif
