#include "service/listen.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#define PARKED_PREFIX "parked-"

enum { BACKLOG = 128 };

void listen_init(Listen *l) {
    *l = (Listen){.weights = -1};
    for (size_t i = 0; i < LISTEN_MAX_PARKED; i++)
        l->parked[i] = -1;
}

const char *listen_parked_name(size_t i, char text[static LISTEN_PARKED_NAME_SIZE]) {
    assert(i < LISTEN_MAX_PARKED);
    (void)snprintf(text, LISTEN_PARKED_NAME_SIZE, PARKED_PREFIX "%u", (unsigned)i);
    return text;
}

int listen_parked_number(const char *name) {
    uint64_t i;
    return str_starts(name, PARKED_PREFIX) && str_to_u64(name + strlen(PARKED_PREFIX), &i) == 0 &&
                           i < LISTEN_MAX_PARKED
                   ? (int)i
                   : -1;
}

void listen_close_parked(Listen *l) {
    for (size_t i = 0; i < LISTEN_MAX_PARKED; i++)
        fd_closep(&l->parked[i]);
}

void listen_done(Listen *l) {
    for (int i = 0; i < l->n_http; i++)
        fd_closep(&l->http[i]);
    for (int i = 0; i < l->n_api; i++)
        fd_closep(&l->api[i]);
    fd_closep(&l->weights);
    listen_close_parked(l);
    if (l->unlink_path)
        (void)unlink(l->unlink_path); /* gone already is as good */
    free(l->unlink_path);
    listen_init(l);
}

static int set_non_blocking(int fd, Err *err) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_set(
                err, -errno, "cannot make descriptor %d non-blocking: %s", fd, strerror(errno));
    return 0;
}

static int add_socket(int fd, int *list, int *n, Err *err) {
    if (*n == LISTEN_MAX)
        return err_set(err, -E2BIG, "more than %d sockets of one kind", LISTEN_MAX);
    int r = set_non_blocking(fd, err);
    if (r < 0)
        return r;
    list[(*n)++] = fd;
    return 0;
}

static bool is_tcp(int fd) {
    return sd_is_socket(fd, AF_INET, SOCK_STREAM, 1) > 0 ||
           sd_is_socket(fd, AF_INET6, SOCK_STREAM, 1) > 0;
}

static bool is_unix(int fd) {
    return sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0;
}

static bool is_readable_file(int fd) {
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY && fstat(fd, &st) == 0 &&
           S_ISREG(st.st_mode);
}

/* True for any name that begins as theirs do. What an earlier version left there must not keep this
 * one from serving. */
static bool take_parked(Listen *l, int fd, const char *name) {
    if (!str_starts(name, PARKED_PREFIX))
        return false;
    l->has_parked = true;
    int i = listen_parked_number(name);
    if (i >= 0 && l->parked[i] < 0)
        l->parked[i] = fd;
    return true;
}

/* One inherited descriptor to its place; it stays open and ours whatever is returned. */
static int take(Listen *l, int fd, const char *name, Err *err) {
    bool unnamed = str_eq(name, "unknown") || name[0] == '\0';
    if (take_parked(l, fd, name))
        return 0;
    if (str_eq(name, "weights")) {
        if (l->weights >= 0 || !is_readable_file(fd))
            return err_set(err, -EPROTO,
                    "inherited descriptor %d 'weights' is not the one read-only file", fd);
        l->weights = fd;
        return 0;
    }
    if (str_eq(name, "http") || (unnamed && is_tcp(fd))) {
        if (!is_tcp(fd))
            return err_set(err, -EPROTO,
                    "inherited descriptor %d 'http' is not a listening TCP socket", fd);
        return add_socket(fd, l->http, &l->n_http, err);
    }
    if (str_eq(name, "api") || (unnamed && is_unix(fd))) {
        if (!is_unix(fd))
            return err_set(err, -EPROTO,
                    "inherited descriptor %d 'api' is not a listening unix stream socket", fd);
        return add_socket(fd, l->api, &l->n_api, err);
    }
    return err_set(err, -EPROTO,
            "inherited descriptor %d is named '%.60s', known are http, api, weights", fd, name);
}

static bool holds(const Listen *l, int fd) {
    for (int i = 0; i < l->n_http; i++)
        if (l->http[i] == fd)
            return true;
    for (int i = 0; i < l->n_api; i++)
        if (l->api[i] == fd)
            return true;
    for (size_t i = 0; i < LISTEN_MAX_PARKED; i++)
        if (l->parked[i] == fd)
            return true;
    return l->weights == fd;
}

int listen_inherit(Listen *l, Err *err) {
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    if (n < 0)
        return err_set(err, n, "$LISTEN_FDS: %s", strerror(-n));
    int r = 0;
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (r == 0)
            r = take(l, fd, names ? names[i] : "unknown", err);
        if (!holds(l, fd))
            (void)close(fd);
    }
    for (int i = 0; i < n && names; i++)
        free(names[i]);
    free(names);
    if (r < 0)
        return r;
    l->inherited = l->n_http + l->n_api > 0;
    return l->n_http + l->n_api;
}

/* "127.0.0.1:8484" or "[::1]:8484"; loopback only. */
static int parse_tcp(
        const char *where, struct sockaddr_storage *address, socklen_t *ret_len, Err *err) {
    bool v6 = where[0] == '[';
    const char *colon = strrchr(where, ':');
    size_t n = colon ? (size_t)(colon - where) : 0;
    char host[INET6_ADDRSTRLEN];
    uint64_t port = 0;
    bool good = colon && str_to_u64(colon + 1, &port) == 0 && port <= UINT16_MAX &&
                (!v6 || (n >= 2 && where[n - 1] == ']'));
    const char *start = v6 ? where + 1 : where;
    size_t len = v6 && n >= 2 ? n - 2 : n;
    if (!good || len == 0 || len >= sizeof(host))
        return err_set(err, -EINVAL,
                "'%.100s' is not an address like 127.0.0.1:8484, [::1]:8484 or /path", where);
    memcpy(host, start, len);
    host[len] = '\0';

    struct sockaddr_in *in4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
    bool loopback;
    if (v6) {
        *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        good = inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
        loopback = IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
        *ret_len = sizeof(*in6);
    } else {
        *in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        good = inet_pton(AF_INET, host, &in4->sin_addr) == 1;
        loopback = ntohl(in4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
        *ret_len = sizeof(*in4);
    }
    if (!good)
        return err_set(err, -EINVAL, "'%s' in '%s' is not a numeric address", host, where);
    if (!loopback)
        return err_set(err, -EINVAL,
                "'%s' is not a loopback address; to serve a network, put a proxy with TLS in front",
                where);
    return 0;
}

static int open_tcp(const char *where, int *ret, Err *err) {
    struct sockaddr_storage address = {0};
    socklen_t len = 0;
    int r = parse_tcp(where, &address, &len, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
            (address.ss_family == AF_INET6 &&
                    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
            bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, BACKLOG) < 0)
        return err_set(err, -errno, "cannot listen on '%s': %s", where, strerror(errno));
    *ret = TAKE_FD(fd);
    return 0;
}

/* True when a socket is there that nobody listens on. Connecting to a plain file is refused with
 * the same errno, hence the look at what it is. */
static bool is_stale(const struct sockaddr_un *address) {
    struct stat st;
    if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
           errno == ECONNREFUSED;
}

static int open_unix(const char *path, int *ret, Err *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, -EINVAL, "socket path '%.120s' has %zu bytes, allowed are %zu", path,
                strlen(path), sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (is_stale(&address))
        (void)unlink(path); /* bind() tells if it is still there */

    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_set(err, -errno, "cannot listen on '%s': %s", path, strerror(errno));
    if (chmod(path, 0660) < 0 || listen(fd, BACKLOG) < 0) {
        int r = err_set(err, -errno, "cannot listen on '%s': %s", path, strerror(errno));
        (void)unlink(path);
        return r;
    }
    *ret = TAKE_FD(fd);
    return 0;
}

int listen_open(Listen *l, const char *where, Err *err) {
    _cleanup_close_ int fd = -1;
    bool unix_path = where[0] == '/';
    _cleanup_free_ char *path = NULL;
    if (unix_path && l->unlink_path)
        return err_set(err, -EINVAL, "'%s': one unix socket is open already", where);
    if (unix_path && !(path = strdup(where)))
        return err_set(err, -ENOMEM, "out of memory");
    int r = unix_path ? open_unix(where, &fd, err) : open_tcp(where, &fd, err);
    if (r < 0)
        return r;
    if (unix_path)
        l->unlink_path = TAKE_PTR(path);
    r = unix_path ? add_socket(fd, l->api, &l->n_api, err)
                  : add_socket(fd, l->http, &l->n_http, err);
    if (r == 0)
        (void)TAKE_FD(fd);
    return r;
}
