#include "service/notify.h"

#include "base/clock.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

void notify_ready(void) {
    (void)sd_notify(0, "READY=1");
}

void notify_stopping(void) {
    (void)sd_notify(0, "STOPPING=1");
}

void notify_watchdog(void) {
    (void)sd_notify(0, "WATCHDOG=1");
}

void notify_reloading(void) {
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_usec());
}

void notify_status(const char *fmt, ...) {
    char text[400]; /* a line for people: cut where it is longer */
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';    /* a newline would begin another assignment */
    str_mend_utf8(text); /* systemd drops a line that is cut within a character */
    (void)sd_notifyf(0, "STATUS=%s", text);
}

void notify_extend(uint64_t usec) {
    (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, usec);
}
