/* preheatd-report - what the daemon tells of its last start: in /healthz and in the journal. */
#ifndef PREHEAT_PREHEATD_REPORT_H
#define PREHEAT_PREHEATD_REPORT_H

#include "preheatd-startup.h"

#include <jansson.h>

/* report_before_usec - from the process's beginning until now, to 10 ms; 0 where the kernel does
 * not say. */
uint64_t report_before_usec(void);

/* report_json - adds "start", the steps as timeline_from_json() reads them, and
 * "seconds_before_start" to the object; incomplete when memory is short. */
void report_json(Startup *s, uint64_t before_usec, json_t *detail);

/* report_log - a line for each step that did not go as it should, the timeline, and a line with the
 * critical path. Once the start is over. variant: "" where there are none. */
void report_log(Startup *s, uint64_t before_usec, const StartupState *state, const char *variant);

/* report_seconds - from the process's beginning until the last step ended. */
double report_seconds(Startup *s, uint64_t before_usec);

/* Seconds that the last start of each kind took; 0: there was none. */
typedef struct ReportTimes {
    double seconds[N_JOB_STARTS];
} ReportTimes;

/* report_read, report_keep - in STATE/start-times: guesses, hence nothing fails for them. keep adds
 * this start, if it went well. */
void report_read(const char *state_dir, ReportTimes *ret);
void report_keep(Startup *s, const char *state_dir, const StartupState *state, ReportTimes *times);

#endif
