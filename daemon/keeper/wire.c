#include "keeper/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_of_a_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

bool wire_name_is_good(const char name[static WIRE_NAME_SIZE]) {
    size_t n = 0;
    while (n < WIRE_NAME_SIZE && is_of_a_name(name[n]))
        n++;
    bool good = n > 0 && n < WIRE_NAME_SIZE;
    for (; n < WIRE_NAME_SIZE; n++)
        good &= name[n] == '\0';
    return good;
}

bool wire_name_set(char name[static WIRE_NAME_SIZE], const char *text) {
    size_t n = strlen(text);
    memset(name, 0, WIRE_NAME_SIZE);
    if (n >= WIRE_NAME_SIZE)
        return false;
    memcpy(name, text, n);
    return wire_name_is_good(name);
}

void wire_close_all(const int *fds, size_t n) {
    for (size_t i = 0; i < n; i++)
        (void)close(fds[i]);
}

typedef union Control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(WIRE_MAX_FDS * sizeof(int))];
} Control;

int wire_send(int socket, const void *data, size_t n, const int *fds, size_t n_fds) {
    assert(n_fds <= WIRE_MAX_FDS);
    Control control = {0};
    struct iovec iov = {.iov_base = (void *)data, .iov_len = n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                .cmsg_type = SCM_RIGHTS,
                .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

ssize_t wire_receive(
        int socket, void *data, size_t room, int ret_fd[static WIRE_MAX_FDS], size_t *ret_n_fds) {
    Control control;
    struct iovec iov = {.iov_base = data, .iov_len = room};
    struct msghdr m = {.msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    size_t n_fds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t more = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        assert(n_fds + more <= WIRE_MAX_FDS); /* there is room for no more */
        memcpy(ret_fd + n_fds, CMSG_DATA(c), more * sizeof(int));
        n_fds += more;
    }
    if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        wire_close_all(ret_fd, n_fds);
        return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EMFILE;
    }
    *ret_n_fds = n_fds;
    return n;
}
