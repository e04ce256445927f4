/* start-report - the daemon's last start as a timeline: what it waited for, and how long. */
#ifndef PREHEAT_CTL_START_REPORT_H
#define PREHEAT_CTL_START_REPORT_H

#include "ctl/client.h"
#include "ctl/options.h"
#include "ctl/signals.h"

typedef struct StartReportOptions {
    const char *svg;
    bool json, wake, compare;
} StartReportOptions;

extern const OptionTable start_report_table;

/* start_report_run - asks the daemon unless it sleeps; with --wake until its start has ended.
 *
 *   units    units_states(), or an empty object
 *   signals  end that wait
 *   columns  0: 80
 *
 * Returns 0; -ESRCH when there is no start to report; the client's codes; negative errno of writing
 * the picture. */
int start_report_run(Client *c, const json_t *units, const StartReportOptions *o, Signals *signals,
        int columns, FILE *out, Err *err);

/* start_report_print - of /healthz's "detail". Returns 0; -EPROTO; -ENOMEM. */
int start_report_print(const json_t *detail, int columns, FILE *out, Err *err);

/* start_report_compare - earlier starts of each variant, a line for each variant and kind of start.
 * Returns 0; -ESRCH when there are none; -EPROTO; -ENOMEM. */
int start_report_compare(const json_t *detail, FILE *out, Err *err);

#endif
