#include "keeper/backup.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void backup_open(Backup *b, const char *address) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = address ? strlen(address) : 0;
    b->socket = -1;
    if (n < 2 || n >= sizeof(a.sun_path) || (address[0] != '/' && address[0] != '@'))
        return;
    memcpy(a.sun_path, address, n);
    if (a.sun_path[0] == '@')
        a.sun_path[0] = '\0';
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, size) == 0)
        b->socket = TAKE_FD(fd);
}

void backup_close(Backup *b) {
    fd_closep(&b->socket);
}

/* FDPOLL=0: the NVIDIA driver's descriptors can be polled, and systemd drops what hangs up. */
void backup_put(const Backup *b, const char name[static WIRE_NAME_SIZE], int fd) {
    char text[80];
    int n = snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    if (b->socket >= 0)
        (void)wire_send(b->socket, text, (size_t)n, &fd, 1); /* a copy less */
}

void backup_remove(const Backup *b, const char name[static WIRE_NAME_SIZE]) {
    char text[80];
    int n = snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
    if (b->socket >= 0)
        (void)wire_send(b->socket, text, (size_t)n, NULL, 0); /* settling tells */
}

/* systemd works its datagrams off in order, and closes this one's pipe when it gets there. */
int backup_settle(const Backup *b, uint64_t timeout_usec) {
    static const char text[] = "BARRIER=1";
    int ends[2];
    if (b->socket < 0)
        return 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int r = wire_send(b->socket, text, sizeof(text) - 1, &ends[1], 1);
    (void)close(ends[1]);
    struct pollfd p = {.fd = ends[0]};
    if (r == 0) {
        int n = poll(&p, 1, (int)(timeout_usec / USEC_PER_MSEC));
        r = n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
    }
    (void)close(ends[0]);
    return r;
}
