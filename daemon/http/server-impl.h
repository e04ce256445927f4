/* server-impl - what the files of this room share: the server, a connection, one exchange.
 *
 * All on the server's thread. */
#ifndef PREHEAT_HTTP_SERVER_IMPL_H
#define PREHEAT_HTTP_SERVER_IMPL_H

#include "base/buf.h"
#include "http/access.h"
#include "http/server.h"
#include "request/multipart.h"

#include <jansson.h>
#include <microhttpd.h>

/* One connection; lives from accept to close. */
typedef struct HttpConnection {
    struct HttpConnection *prev, *next;
    int fd;
    HttpPeer peer;
    bool in_request;     /* between a request's head and the end of its answer */
    bool uploading;      /* its body is still coming */
    bool asked;          /* for anything */
    bool real;           /* for more than health and metrics */
    uint64_t since_usec; /* when the request began, or the last one ended */
} HttpConnection;

/* One request and its answer. */
typedef struct HttpExchange {
    struct HttpExchange *prev, *next; /* in server->waiting */
    HttpServer *server;
    HttpConnection *connection;
    struct MHD_Connection *mhd;
    const struct HttpRoute *route; /* NULL: there is none */
    bool is_head;                  /* of a route for GET */
    char id[JOB_ID_SIZE];          /* of the path; empty: the path has none */
    char name[128];                /* of the path, where it is not a job's id */

    uint64_t received, body_limit;
    uint64_t held_bytes; /* counted in server->upload_bytes */
    Buf body;
    Multipart *form;

    int code; /* negative: the answer will be this error */
    Err err;
    RequestFault fault;
    int retry_after_sec;
    char upgrade_id[JOB_ID_SIZE]; /* the full job beside what was answered; empty: none */
    const char *hint_name; /* a header that explains the error: Allow, Content-Range; NULL: none */
    char hint[48];

    bool waiting; /* suspended until the job has stopped, or can be accepted or refused */
    bool opening; /* the latter: the handler looks again */
    bool settled; /* it has, or the time for it is over; code says how */
    uint64_t deadline_usec;

    unsigned status; /* of the answer, with response */
    struct MHD_Response *response;
} HttpExchange;

struct HttpServer {
    HttpServerOptions options;
    HttpAccess access;
    struct MHD_Daemon **daemons; /* [n_daemons], one a listening socket */
    size_t n_daemons;
    int epoll_fd; /* of their epoll descriptors */
    HttpConnection *connections;
    size_t n_connections;
    HttpExchange *waiting;
    uint64_t upload_bytes; /* of all bodies now in memory */
    uint64_t last_activity_usec;
    bool quiesced;
    Metric *answers[4]; /* 2xx, 3xx, 4xx, 5xx; NULL without metrics */
    Metric *connected;
};

/* http_connection_notify - libmicrohttpd's callback; context is the server. */
void http_connection_notify(void *context, struct MHD_Connection *mhd, void **socket_context,
        enum MHD_ConnectionNotificationCode what);

/* http_connection_deadline - when the connection has had its time: for a request's head or the next
 * request, for a body. An answer may take as long as its reader goes on reading. */
uint64_t http_connection_deadline(const HttpServer *s, const HttpConnection *c);
void http_connection_cut_overdue(HttpServer *s);

/* A handler sets the response, or returns a negative errno with sentence and fault.
 * HTTP_WAIT: it is called again when the job has moved, or with x->opening when the server accepts
 * jobs or has refused to. */
#define HTTP_WAIT 1
typedef int HttpHandler(HttpExchange *x);

/* HTTP_OPEN: needs no token. HTTP_QUIET: is no activity. HTTP_BODY: takes one. */
enum { HTTP_OPEN = 1, HTTP_QUIET = 2, HTTP_BODY = 4 };

typedef struct HttpRoute {
    const char *method;
    const char *path; /* "{}" stands for one part of it */
    HttpHandler *handler;
    unsigned flags;
} HttpRoute;

/* http_route_find - fills x->route, x->id and x->name. Returns 0; -ENOENT; -EOPNOTSUPP. */
int http_route_find(HttpExchange *x, const char *method, const char *path);

/* http_body_check_head - refuses what a proxy may have understood otherwise than libmicrohttpd
 * does: two lengths, two hosts (RFC 9112, 3.2 and 6.3). The connection must end with the answer. */
int http_body_check_head(HttpExchange *x);

/* http_body_begin - decides how the body is read; _feed takes a piece, _end is called behind the
 * last. A failure is kept in x->code; the rest of the body is then thrown away. http_body_feed
 * returns false when the client sends so much that the connection must be cut. */
void http_body_begin(HttpExchange *x);
bool http_body_feed(HttpExchange *x, const char *data, size_t n);
bool http_body_wanted(HttpExchange *x); /* worth reading although it is refused */
void http_body_end(HttpExchange *x);
void http_body_done(HttpExchange *x);

/* http_exchange_access, http_exchange_completed - libmicrohttpd's callbacks; context is the
 * server. */
enum MHD_Result http_exchange_access(void *context, struct MHD_Connection *c, const char *url,
        const char *method, const char *version, const char *data, size_t *n, void **exchange);
void http_exchange_completed(void *context, struct MHD_Connection *c, void **exchange,
        enum MHD_RequestTerminationCode how);

/* http_exchange_retry_waiting - looks after deletions that wait for the worker, and jobs that wait
 * for the server to open; all: gives up on them, without asking anybody. */
void http_exchange_retry_waiting(HttpServer *s, bool all);

/* http_reply_json - takes j; NULL is out of memory. http_reply_text copies. Both return 0 or
 * -ENOMEM with the sentence. */
int http_reply_json(HttpExchange *x, unsigned status, json_t *j);
int http_reply_text(HttpExchange *x, const char *type, const char *text, size_t n);
int http_reply_header(HttpExchange *x, const char *name, const char *value);

/* http_reply_error - the envelope of x->code, err and fault; false when even that has no memory. */
bool http_reply_error(HttpExchange *x);

/* http_header, http_query - of the request, NULL when absent. */
const char *http_header(HttpExchange *x, const char *name);
const char *http_query(HttpExchange *x, const char *name);

/* http_answer - queues x->response. Returns MHD_NO when the connection must be cut. */
enum MHD_Result http_answer(HttpExchange *x);

/* http_describe - what the daemon says of itself now. */
HttpService http_describe(HttpServer *s);

/* http_degrade - decides what a request gets that would wait too long for the model to be loaded.
 *
 *   r  validated, model set, seed as the client gave it; smaller afterwards, r->degraded set, where
 *      a simpler generation is due
 *
 * Returns 0 when r is to be run; HTTP_STORED with *ret, which the caller frees; -ESHUTDOWN with
 * Retry-After when the policy allows nothing that is quick enough. */
#define HTTP_STORED 2
int http_degrade(HttpExchange *x, JobQueue *q, const HttpService *v, Request *r, JobInfo *ret);

/* api-videos.c */
HttpHandler http_videos_create, http_videos_list, http_videos_get, http_videos_delete,
        http_videos_content, http_videos_remix, http_videos_cancel;
/* api-admin.c */
HttpHandler http_admin_health, http_admin_metrics, http_admin_models, http_admin_model,
        http_admin_page;

#endif
