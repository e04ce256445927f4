#include "service/fdstore.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

size_t fdstore_room(void) {
    const char *text = getenv("FDSTORE");
    uint64_t n;
    return text && str_to_u64(text, &n) == 0 ? (size_t)n : 0;
}

/* FDPOLL=0: the NVIDIA driver's descriptors can be polled, and systemd drops what hangs up. */
int fdstore_put(const char *name, int fd, Err *err) {
    char text[120];
    (void)snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%.80s", name);
    int r = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
    if (r == 0)
        return err_set(err, -ENOTCONN, "no service manager keeps descriptors for this process");
    return r < 0 ? err_set(err, r, "cannot hand over descriptor '%s': %s", name, strerror(-r)) : 0;
}

void fdstore_remove(const char *name) {
    (void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%.80s", name);
}

int fdstore_settle(uint64_t timeout_usec, Err *err) {
    int r = sd_notify_barrier(0, timeout_usec);
    if (r == 0)
        return err_set(err, -ENOTCONN, "no service manager keeps descriptors for this process");
    return r < 0 ? err_set(err, r, "the service manager does not answer: %s", strerror(-r)) : 0;
}
