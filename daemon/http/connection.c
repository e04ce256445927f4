#include "http/server-impl.h"

#include "base/clock.h"

#include <sys/socket.h>

static void connection_begin(HttpServer *s, struct MHD_Connection *mhd, void **context) {
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    HttpConnection *c = info ? calloc(1, sizeof(*c)) : NULL;
    *context = NULL; /* its first request is then cut off */
    if (!c)
        return;
    c->fd = info->connect_fd;
    if (http_peer_of(c->fd, &c->peer) < 0) {
        free(c);
        return;
    }
    c->since_usec = clock_usec();
    c->next = s->connections;
    if (c->next)
        c->next->prev = c;
    s->connections = c;
    s->n_connections++;
    *context = c;
}

static void connection_end(HttpServer *s, HttpConnection *c) {
    if (!c)
        return;
    if (c->prev)
        c->prev->next = c->next;
    else
        s->connections = c->next;
    if (c->next)
        c->next->prev = c->prev;
    s->n_connections--;
    free(c);
}

void http_connection_notify(void *context, struct MHD_Connection *mhd, void **socket_context,
        enum MHD_ConnectionNotificationCode what) {
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        connection_begin(context, mhd, socket_context);
    else
        connection_end(context, *socket_context);
}

uint64_t http_connection_deadline(const HttpServer *s, const HttpConnection *c) {
    if (c->in_request && !c->uploading)
        return USEC_INFINITY;
    return c->since_usec +
           (c->in_request ? s->options.upload_usec : s->options.idle_connection_usec);
}

void http_connection_cut_overdue(HttpServer *s) {
    uint64_t now = clock_usec();
    for (HttpConnection *c = s->connections; c; c = c->next)
        if (http_connection_deadline(s, c) <= now)
            (void)shutdown(c->fd, SHUT_RDWR); /* an accepted one; libmicrohttpd sees its end */
}
