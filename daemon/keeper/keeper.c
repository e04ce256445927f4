#include "keeper/keeper.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

enum { ANSWER_SEC = 5 };

bool keeper_is_running(const char *path) {
    static const char end[] = ".sock";
    char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    size_t n = strlen(path);
    if (!str_ends(path, end) || n - strlen(end) >= sizeof(directory))
        return true;
    memcpy(directory, path, n - strlen(end));
    directory[n - strlen(end)] = '\0';
    return access(directory, F_OK) == 0;
}

static int failed(const char *path, int r, Err *err) {
    return err_set(err, r == -EAGAIN ? -ETIMEDOUT : r, "preheat-keeper at '%s': %s", path,
            r == -EAGAIN ? "gives no answer" : strerror(-r));
}

static int open_connection(const char *path, int *ret, Err *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = ANSWER_SEC};
    if (strlen(path) >= sizeof(a.sun_path))
        return err_set(err, -EINVAL, "socket path '%.120s' has %zu bytes, allowed are %zu", path,
                strlen(path), sizeof(a.sun_path) - 1);
    memcpy(a.sun_path, path, strlen(path) + 1);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
            connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return failed(path, -errno, err);
    *ret = TAKE_FD(fd);
    return 0;
}

static int check_answer(const WireAnswer *a, size_t n, size_t n_fds, WireOp op) {
    bool fetch = op == WIRE_FETCH;
    if (n < WIRE_ANSWER_HEAD_BYTES || memcmp(a->magic, WIRE_MAGIC, sizeof(a->magic)) != 0 ||
            a->code > 0 || a->n > WIRE_MAX_KEPT ||
            n != WIRE_ANSWER_HEAD_BYTES + a->n * WIRE_NAME_SIZE ||
            n_fds != (fetch && a->code == 0 ? a->n : 0))
        return -EPROTO;
    for (size_t i = 0; i < a->n; i++)
        if (!wire_name_is_good(a->name[i]))
            return -EPROTO;
    return a->code;
}

/* fds has the answer's descriptors where this returns 0, a->n of them. fd -1: none to hand over. */
static int ask(const char *path, const WireRequest *q, int fd, WireAnswer *a,
        int fds[static WIRE_MAX_FDS], Err *err) {
    _cleanup_close_ int s = -1;
    size_t n_fds = 0;
    int r = open_connection(path, &s, err);
    if (r < 0)
        return r;
    ssize_t n = wire_send(s, q, sizeof(*q), &fd, fd < 0 ? 0 : 1);
    if (n == 0)
        n = wire_receive(s, a, sizeof(*a), fds, &n_fds);
    if (n == 0)
        n = -ECONNRESET;
    r = n < 0 ? (int)n : check_answer(a, (size_t)n, n_fds, (WireOp)q->op);
    if (r == 0)
        return 0;
    wire_close_all(fds, n_fds);
    return failed(path, r, err);
}

static int name_request(WireRequest *q, const char *name, Err *err) {
    return wire_name_set(q->name, name)
                   ? 0
                   : err_set(err, -EINVAL, "'%.40s' is no name for a descriptor", name);
}

int keeper_store(const char *path, const char *name, int fd, Err *err) {
    WireRequest q = {.magic = WIRE_MAGIC, .op = WIRE_STORE};
    WireAnswer a;
    int fds[WIRE_MAX_FDS];
    int r = name_request(&q, name, err);
    return r == 0 ? ask(path, &q, fd, &a, fds, err) : r;
}

int keeper_remove(const char *path, const char *name, size_t *ret_n, Err *err) {
    WireRequest q = {.magic = WIRE_MAGIC, .op = WIRE_REMOVE};
    WireAnswer a;
    int fds[WIRE_MAX_FDS];
    int r = name ? name_request(&q, name, err) : 0;
    if (r == 0)
        r = ask(path, &q, -1, &a, fds, err);
    if (r == 0 && ret_n)
        *ret_n = a.count;
    return r;
}

int keeper_count(const char *path, size_t *ret_n, Err *err) {
    const WireRequest q = {.magic = WIRE_MAGIC, .op = WIRE_LIST};
    WireAnswer a;
    int fds[WIRE_MAX_FDS];
    int r = ask(path, &q, -1, &a, fds, err);
    if (r == 0)
        *ret_n = a.n;
    return r;
}

int keeper_fetch(const char *path, KeeperSet *ret, Err *err) {
    const WireRequest q = {.magic = WIRE_MAGIC, .op = WIRE_FETCH};
    WireAnswer a;
    int fds[WIRE_MAX_FDS];
    int r = ask(path, &q, -1, &a, fds, err);
    if (r < 0)
        return r;
    ret->n = a.n;
    memcpy(ret->fd, fds, a.n * sizeof(fds[0]));
    memcpy(ret->name, a.name, a.n * sizeof(a.name[0]));
    return 0;
}
