/* notify - what we tell systemd; every call does nothing where $NOTIFY_SOCKET is not set.
 *
 * Any thread. Failures are not reported: systemd not listening is no reason to serve worse. */
#ifndef PREHEAT_SERVICE_NOTIFY_H
#define PREHEAT_SERVICE_NOTIFY_H

#include "base/macro.h"

#include <stdint.h>

void notify_ready(void);
void notify_stopping(void);
void notify_watchdog(void);

/* notify_reloading - says that a reload began; notify_ready() ends it (Type=notify-reload). */
void notify_reloading(void);

/* notify_status - the line that `systemctl status` shows. */
void notify_status(const char *fmt, ...) _printf_(1, 2);

/* notify_extend - asks for this much more time from now before a start or stop counts as hung. */
void notify_extend(uint64_t usec);

#endif
