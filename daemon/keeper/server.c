#include "keeper/server.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>

/* For systemd to close its copies. */
#define SETTLE_USEC (2 * USEC_PER_SEC)

typedef struct Peer {
    int fd;
    struct ucred who;
    bool refused;
    uint64_t until_usec;
} Peer;

typedef struct Server {
    const ServerOptions *o;
    Shelf *shelf;
    Peer peer[SERVER_MAX_CLIENTS];
    size_t n;
    size_t n_told;      /* descriptors, in the last line about them */
    uint64_t last_usec; /* when something happened */
} Server;

static void tell(const Server *s, int priority, const char *fmt, ...) _printf_(3, 4);

static void tell(const Server *s, int priority, const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* a line for people: cut where it is longer */
    va_end(ap);
    s->o->tell(priority, text);
}

static void peer_close(Server *s, size_t i) {
    (void)close(s->peer[i].fd);
    s->peer[i] = s->peer[--s->n];
    s->last_usec = clock_usec(); /* one that waited in the socket may have its place now */
}

static void accept_peer(Server *s) {
    _cleanup_close_ int fd = accept4(s->o->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    Peer p = {.fd = fd, .until_usec = clock_deadline(s->o->client_usec)};
    socklen_t size = sizeof(p.who);
    if (fd < 0)
        return; /* it is gone again */
    p.refused = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &p.who, &size) < 0 ||
                (p.who.uid != 0 && p.who.uid != s->o->uid);
    (void)TAKE_FD(fd);
    s->peer[s->n++] = p;
}

/* Takes fd over where it returns 0. */
static int store(Server *s, const char *name, int fd, uint32_t *ret_count) {
    backup_remove(s->o->backup, name);
    int r = shelf_put(s->shelf, name, fd);
    if (r == 0)
        backup_put(s->o->backup, name, fd);
    *ret_count = (uint32_t)s->shelf->n;
    return r;
}

/* The device has its memory back when this returns, hence systemd is waited for. */
static int drop(Server *s, const char *name, uint32_t *ret_count) {
    for (size_t i = 0; i < s->shelf->n; i++)
        if (!name[0] || memcmp(s->shelf->name[i], name, WIRE_NAME_SIZE) == 0)
            backup_remove(s->o->backup, s->shelf->name[i]);
    size_t n = name[0] ? shelf_remove(s->shelf, name) : shelf_clear(s->shelf);
    *ret_count = (uint32_t)n;
    return n > 0 ? backup_settle(s->o->backup, SETTLE_USEC) : 0;
}

static int check_request(const WireRequest *q, size_t n, size_t n_fds) {
    static const char none[WIRE_NAME_SIZE];
    bool nameless = memcmp(q->name, none, sizeof(none)) == 0;
    if (n != sizeof(*q) || memcmp(q->magic, WIRE_MAGIC, sizeof(q->magic)) != 0 ||
            q->op < WIRE_STORE || q->op > WIRE_FETCH || q->zero[0] || q->zero[1] || q->zero[2] ||
            n_fds != (q->op == WIRE_STORE ? 1 : 0))
        return -EBADMSG;
    if (q->op == WIRE_LIST || q->op == WIRE_FETCH)
        return nameless ? 0 : -EBADMSG;
    return wire_name_is_good(q->name) || (nameless && q->op == WIRE_REMOVE) ? 0 : -EINVAL;
}

/* What a good request asks for. */
static void obey(Server *s, const WireRequest *q, int fd, WireAnswer *a) {
    switch ((WireOp)q->op) {
    case WIRE_STORE:
        a->code = store(s, q->name, fd, &a->count);
        if (a->code < 0)
            (void)close(fd);
        return;
    case WIRE_REMOVE:
        a->code = drop(s, q->name, &a->count);
        return;
    case WIRE_LIST:
    case WIRE_FETCH:
        a->count = a->n = (uint32_t)s->shelf->n;
        memcpy(a->name, s->shelf->name, s->shelf->n * WIRE_NAME_SIZE);
    }
}

/* False: the connection ends. */
static bool serve(Server *s, Peer *p) {
    WireRequest q = {0};
    WireAnswer a = {.magic = WIRE_MAGIC};
    int fds[WIRE_MAX_FDS];
    size_t n_fds = 0;
    ssize_t n = wire_receive(p->fd, &q, sizeof(q), fds, &n_fds);
    if (n == -EAGAIN)
        return true;
    if (n == 0 || (n < 0 && n != -EMSGSIZE && n != -EMFILE)) {
        wire_close_all(fds, n_fds);
        return false;
    }
    int r = n == -EMFILE ? -EMFILE : n < 0 ? -EBADMSG : check_request(&q, (size_t)n, n_fds);
    if (p->refused)
        r = -EACCES;
    if (r < 0) {
        tell(s, LOG_WARNING, "Refusing a request of process %d, user %d: %s", (int)p->who.pid,
                (int)p->who.uid, strerror(-r));
        wire_close_all(fds, n_fds);
        a.code = r;
    } else {
        obey(s, &q, fds[0], &a);
    }
    bool fetch = r == 0 && q.op == WIRE_FETCH;
    int sent = wire_send(p->fd, &a, WIRE_ANSWER_HEAD_BYTES + a.n * WIRE_NAME_SIZE, s->shelf->fd,
            fetch ? a.n : 0);
    p->until_usec = clock_deadline(s->o->client_usec);
    return r == 0 && sent == 0;
}

static void tell_held(Server *s) {
    if (s->shelf->n == s->n_told)
        return;
    if (s->shelf->n > 0)
        tell(s, LOG_INFO, "Holding %zu descriptors of parked weights", s->shelf->n);
    else
        tell(s, LOG_INFO, "Holding nothing any more");
    s->n_told = s->shelf->n;
}

/* When something has to be done although nobody asks; USEC_INFINITY: never. */
static uint64_t next_usec(const Server *s) {
    uint64_t next = USEC_INFINITY;
    for (size_t i = 0; i < s->n; i++)
        next = MIN(next, s->peer[i].until_usec);
    if (s->n_told != s->shelf->n)
        next = MIN(next, s->last_usec + SERVER_QUIET_USEC);
    if (s->n == 0 && s->shelf->n == 0)
        next = MIN(next, s->last_usec + s->o->idle_usec);
    return next;
}

/* One round; 1: idle. */
static int turn(Server *s) {
    struct pollfd p[SERVER_MAX_CLIENTS + 1];
    for (size_t i = 0; i < s->n; i++)
        p[i] = (struct pollfd){.fd = s->peer[i].fd, .events = POLLIN};
    size_t n_polled = s->n;
    if (s->n < SERVER_MAX_CLIENTS)
        p[n_polled++] = (struct pollfd){.fd = s->o->listen_fd, .events = POLLIN};
    uint64_t next = next_usec(s);
    /* Rounded up: a wait that ends early would turn in a circle. */
    int wait = next == USEC_INFINITY ? -1 : (int)(clock_left(next) / USEC_PER_MSEC + 1);
    int r = poll(p, n_polled, wait);
    if (r < 0)
        return errno == EINTR ? 0 : -errno;
    if (r > 0)
        s->last_usec = clock_usec();
    if (n_polled > s->n && p[s->n].revents)
        accept_peer(s); /* at the end of the list: does not move the others */
    for (size_t i = MIN(n_polled, s->n); i-- > 0;) {
        bool asks = i < n_polled && p[i].fd == s->peer[i].fd && p[i].revents;
        if (asks ? !serve(s, &s->peer[i]) : clock_left(s->peer[i].until_usec) == 0)
            peer_close(s, i);
    }
    uint64_t quiet = clock_usec() - s->last_usec;
    if (quiet >= SERVER_QUIET_USEC)
        tell_held(s);
    return s->n == 0 && s->shelf->n == 0 && quiet >= s->o->idle_usec;
}

int server_run(const ServerOptions *o, Shelf *shelf, Err *err) {
    Server s = {.o = o, .shelf = shelf, .last_usec = clock_usec()};
    int flags = fcntl(o->listen_fd, F_GETFL), r = 0;
    if (flags < 0 || fcntl(o->listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_set(err, -errno, "the keeper's socket: %s", strerror(errno));
    while (r == 0)
        r = turn(&s);
    while (s.n > 0)
        peer_close(&s, s.n - 1);
    return r < 0 ? err_set(err, r, "cannot wait for clients: %s", strerror(-r)) : 0;
}
