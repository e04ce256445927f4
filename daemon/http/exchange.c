#include "http/server-impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>

/* How long a deletion waits for the worker to let go of the job. */
#define DELETE_WAIT_USEC (30 * USEC_PER_SEC)

static HttpConnection *connection_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static HttpExchange *exchange_new(HttpServer *s, struct MHD_Connection *c) {
    HttpConnection *connection = connection_of(c);
    HttpExchange *x = connection ? calloc(1, sizeof(*x)) : NULL;
    if (!x)
        return NULL;
    x->server = s;
    x->mhd = c;
    x->connection = connection;
    connection->in_request = connection->uploading = true;
    connection->since_usec = clock_usec();
    return x;
}

static void note_activity(HttpExchange *x) {
    HttpConnection *c = x->connection;
    bool quiet = x->route && x->route->flags & HTTP_QUIET;
    c->asked = true;
    c->real = c->real || !quiet;
    if (!quiet)
        x->server->last_activity_usec = clock_usec();
}

static int check_access(HttpExchange *x) {
    HttpCredentials c = {.authorization = http_header(x, MHD_HTTP_HEADER_AUTHORIZATION),
            .host = http_header(x, MHD_HTTP_HEADER_HOST),
            .origin = http_header(x, MHD_HTTP_HEADER_ORIGIN)};
    bool token_needed = !x->route || !(x->route->flags & HTTP_OPEN);
    return http_access_check(&x->server->access, &x->connection->peer, &c, token_needed, &x->err);
}

enum MHD_Result http_answer(HttpExchange *x) {
    HttpServer *s = x->server;
    if (s->quiesced &&
            MHD_add_response_header(x->response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_NO)
        return MHD_NO;
    enum MHD_Result r = MHD_queue_response(x->mhd, x->status, x->response);
    assert(x->status >= 200 && x->status < 600);
    Metric *count = s->answers[x->status / 100 - 2];
    if (count)
        metric_add(count, 1);
    return r;
}

static enum MHD_Result answer_error(HttpExchange *x) {
    return http_reply_error(x) ? http_answer(x) : MHD_NO;
}

static enum MHD_Result answer_last_error(HttpExchange *x) {
    return http_reply_error(x) && http_reply_header(x, MHD_HTTP_HEADER_CONNECTION, "close") == 0
                   ? http_answer(x)
                   : MHD_NO;
}

static enum MHD_Result begin(HttpExchange *x, const char *method, const char *path) {
    log_debug("%s %s", method, path);
    x->is_head = str_eq(method, "HEAD");
    int unrouted = http_route_find(x, method, path);
    Err unrouted_err = x->err;
    err_clear(&x->err);
    note_activity(x);
    x->code = http_body_check_head(x);
    if (x->code < 0) {
        x->hint_name = NULL;
        return answer_last_error(x);
    }
    x->code = check_access(x); /* who may not talk to us does not learn what there is */
    if (x->code < 0) {
        x->hint_name = NULL;
        return answer_error(x);
    }
    if (unrouted < 0) {
        x->err = unrouted_err;
        x->code = unrouted;
        return answer_error(x);
    }
    http_body_begin(x);
    return x->code < 0 && !http_body_wanted(x) ? answer_error(x) : MHD_YES;
}

static void wait_for_job(HttpExchange *x) {
    HttpServer *s = x->server;
    x->waiting = true;
    x->deadline_usec = clock_deadline(x->opening ? s->options.opening_usec : DELETE_WAIT_USEC);
    x->prev = NULL;
    x->next = s->waiting;
    if (s->waiting)
        s->waiting->prev = x;
    s->waiting = x;
    MHD_suspend_connection(x->mhd);
}

static void stop_waiting(HttpExchange *x) {
    if (x->prev)
        x->prev->next = x->next;
    else
        x->server->waiting = x->next;
    if (x->next)
        x->next->prev = x->prev;
    x->waiting = false;
    x->settled = true;
    MHD_resume_connection(x->mhd);
}

void http_exchange_retry_waiting(HttpServer *s, bool all) {
    HttpExchange *next;
    for (HttpExchange *x = s->waiting; x; x = next) {
        next = x->next;
        if (x->opening) {
            if (all || clock_left(x->deadline_usec) == 0 || !http_describe(s).opening)
                stop_waiting(x);
            continue;
        }
        int r = all ? JOB_STOPPING : job_queue_delete(s->options.jobs, x->id, &x->err);
        if (r == JOB_STOPPING && !all && clock_left(x->deadline_usec) > 0)
            continue;
        if (r == JOB_STOPPING) {
            x->retry_after_sec = 1;
            r = err_set(
                    &x->err, -EINPROGRESS, "'%s' is still stopping, it is not deleted yet", x->id);
        }
        x->code = r;
        stop_waiting(x);
    }
}

static enum MHD_Result finish(HttpExchange *x) {
    x->connection->uploading = false;
    if (!x->settled)
        http_body_end(x);
    int r = x->code < 0 && !x->settled ? x->code : x->route->handler(x);
    if (r == HTTP_WAIT) {
        wait_for_job(x);
        return MHD_YES;
    }
    x->code = r;
    return r < 0 ? answer_error(x) : http_answer(x);
}

enum MHD_Result http_exchange_access(void *context, struct MHD_Connection *c, const char *url,
        const char *method, const char *version, const char *data, size_t *n, void **exchange) {
    HttpExchange *x = *exchange;
    if (!x) {
        x = *exchange = exchange_new(context, c);
        return x ? begin(x, method, url) : MHD_NO;
    }
    if (*n > 0) {
        bool go_on = http_body_feed(x, data, *n);
        *n = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    return x->waiting ? MHD_YES : finish(x);
}

void http_exchange_completed(void *context, struct MHD_Connection *c, void **exchange,
        enum MHD_RequestTerminationCode how) {
    HttpExchange *x = *exchange;
    if (!x)
        return;
    assert(!x->waiting);
    HttpConnection *connection = x->connection;
    connection->in_request = connection->uploading = false;
    connection->since_usec = clock_usec();
    if (!x->route || !(x->route->flags & HTTP_QUIET))
        x->server->last_activity_usec = clock_usec();
    http_body_done(x);
    if (x->response)
        MHD_destroy_response(x->response);
    free(x);
    *exchange = NULL;
}
