#include "http/server-impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* As many of the largest bodies may be in memory at once. */
#define UPLOADS_AT_ONCE 4
#define LARGEST_BODY_BYTES ((uint64_t)32 << 20)

_printf_(2, 0) static void log_message(void *context, const char *format, va_list ap) {
    char text[300];
    (void)vsnprintf(text, sizeof(text), format, ap);
    text[strcspn(text, "\n")] = '\0';
    log_debug("libmicrohttpd: %s", text);
}

static struct MHD_Daemon *daemon_start(HttpServer *s, int fd) {
    unsigned idle_sec = (unsigned)(s->options.idle_connection_usec / USEC_PER_SEC);
    /* ITC, which suspending brings along, also keeps libmicrohttpd from calling shutdown() on the
     * listening socket: systemd would take that for the socket's failure. */
    return MHD_start_daemon(
            MHD_USE_EPOLL | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
            NULL, http_exchange_access, s, MHD_OPTION_EXTERNAL_LOGGER, log_message, NULL,
            MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
            (unsigned)s->options.max_connections, MHD_OPTION_CONNECTION_TIMEOUT, MAX(idle_sec, 1U),
            MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify, s, MHD_OPTION_NOTIFY_COMPLETED,
            http_exchange_completed, s, MHD_OPTION_STRICT_FOR_CLIENT, 1,
            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

static int listen_on(HttpServer *s, int fd, Err *err) {
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens)
        return err_set(err, -EINVAL, "descriptor %d is not a listening socket", fd);
    struct MHD_Daemon *d = daemon_start(s, fd);
    if (!d)
        return err_set(
                err, -EIO, "libmicrohttpd does not start on the socket of descriptor %d", fd);
    s->daemons[s->n_daemons++] = d;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event event = {.events = EPOLLIN};
    if (!info || epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, info->epoll_fd, &event) < 0)
        return err_set(err, -EIO, "cannot watch the socket of descriptor %d", fd);
    return 0;
}

static void count_answers(HttpServer *s, Metrics *m) {
    static const char name[] = "preheat_http_answers_total", help[] = "Answers by class of status.";
    static const char *const labels[] = {
            "class=\"2xx\"", "class=\"3xx\"", "class=\"4xx\"", "class=\"5xx\""};
    if (!m)
        return;
    for (size_t i = 0; i < ARRAY_LEN(labels); i++)
        s->answers[i] = metrics_counter(m, name, labels[i], help);
    s->connected = metrics_gauge(m, "preheat_http_connections", NULL, "Open connections.");
}

static void fill_in_defaults(HttpServerOptions *o) {
    if (o->max_connections == 0)
        o->max_connections = HTTP_MAX_CONNECTIONS;
    if (o->max_upload_bytes == 0)
        o->max_upload_bytes = UPLOADS_AT_ONCE * LARGEST_BODY_BYTES;
    if (o->idle_connection_usec == 0)
        o->idle_connection_usec = HTTP_IDLE_CONNECTION_USEC;
    if (o->upload_usec == 0)
        o->upload_usec = HTTP_UPLOAD_USEC;
    if (o->opening_usec == 0)
        o->opening_usec = HTTP_OPENING_USEC;
}

int http_server_new(const HttpServerOptions *options, HttpServer **ret, Err *err) {
    HttpServer *s = calloc(1, sizeof(*s));
    struct MHD_Daemon **daemons = calloc(options->n_fds + 1, sizeof(*daemons));
    if (!s || !daemons) {
        free(s);
        free(daemons);
        return err_set(err, -ENOMEM, "no memory for the HTTP server");
    }
    s->daemons = daemons;
    s->options = *options;
    fill_in_defaults(&s->options);
    s->access = (HttpAccess){.token = options->token, .hosts = options->allowed_hosts};
    s->options.fds = NULL; /* the caller's; used here only */
    s->last_activity_usec = clock_usec();
    count_answers(s, options->metrics);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int r = s->epoll_fd < 0
                    ? err_set(err, -errno, "cannot make an epoll descriptor: %s", strerror(errno))
                    : 0;
    for (size_t i = 0; r == 0 && i < options->n_fds; i++)
        r = listen_on(s, options->fds[i], err);
    if (r < 0)
        s = http_server_free(s);
    else
        *ret = s;
    return r;
}

HttpServer *http_server_free(HttpServer *s) {
    if (!s)
        return NULL;
    http_server_quiesce(s); /* else the listening sockets would be closed */
    http_exchange_retry_waiting(s, true);
    for (size_t i = 0; i < s->n_daemons; i++)
        MHD_stop_daemon(s->daemons[i]);
    assert(!s->connections && !s->waiting);
    fd_closep(&s->epoll_fd);
    free(s->daemons);
    free(s);
    return NULL;
}

int http_server_fd(const HttpServer *s) {
    return s->epoll_fd;
}

void http_server_run(HttpServer *s) {
    http_exchange_retry_waiting(s, false);
    http_connection_cut_overdue(s);
    for (size_t i = 0; i < s->n_daemons; i++) {
        /* A daemon at its limit of connections looks at its socket again with the next run after
         * one has gone, for which nothing else would wake it. */
        size_t before;
        do {
            before = s->n_connections;
            (void)MHD_run(s->daemons[i]); /* fails for other kinds of daemons only */
        } while (s->n_connections < before);
    }
}

uint64_t http_server_timeout(HttpServer *s) {
    uint64_t least = USEC_INFINITY, now = clock_usec();
    for (const HttpConnection *c = s->connections; c; c = c->next)
        least = MIN(least, http_connection_deadline(s, c));
    for (const HttpExchange *x = s->waiting; x; x = x->next)
        least = MIN(least, x->deadline_usec);
    least = least == USEC_INFINITY ? least : least > now ? least - now : 0;
    for (size_t i = 0; i < s->n_daemons; i++) {
        MHD_UNSIGNED_LONG_LONG msec;
        if (MHD_get_timeout(s->daemons[i], &msec) == MHD_YES)
            least = MIN(least, (uint64_t)msec * USEC_PER_MSEC);
    }
    return least;
}

size_t http_server_connections(const HttpServer *s) {
    size_t n = 0;
    for (const HttpConnection *c = s->connections; c; c = c->next)
        n += c->real || !c->asked;
    return n;
}

uint64_t http_server_last_activity(const HttpServer *s) {
    return s->last_activity_usec;
}

void http_server_quiesce(HttpServer *s) {
    if (s->quiesced)
        return;
    s->quiesced = true;
    for (size_t i = 0; i < s->n_daemons; i++)
        (void)MHD_quiesce_daemon(s->daemons[i]); /* hands back the descriptor, which is not ours */
}
