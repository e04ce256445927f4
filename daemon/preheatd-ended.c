#include "preheatd-ended.h"

#include "base/log.h"
#include "base/str.h"
#include "service/notify.h"

#include <stdlib.h>

static const char *value_of(const char *name) {
    const char *value = getenv(name);
    return value ? value : "unknown";
}

void ended_report(void) {
    const char *result = value_of("SERVICE_RESULT"), *code = value_of("EXIT_CODE"),
               *status = value_of("EXIT_STATUS");
    if (str_eq(result, "success"))
        return;
    LogFields fields = {LOG_ID_ENDED, NULL};
    log_line(LOG_ERR, fields, "preheatd ended: %s, %s %s", result, code, status);
    /* A start that systemd refuses leaves this line as it is. */
    notify_status("Ended: %s, %s %s. journalctl -xu preheatd tells why. Where the sockets are "
                  "closed, too, "
                  "mend that, then: systemctl reset-failed preheatd.service preheatd.socket "
                  "preheatd-api.socket; systemctl start preheatd.socket preheatd-api.socket",
            result, code, status);
}
