#include "preheatd-report.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "startgraph/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Columns of the timeline in the journal. */
#define LOG_COLUMNS 90

/* Field 22 of stat(5), the process's beginning in ticks since boot; what stands before it may hold
 * blanks, but no closing bracket follows the name's. */
static int64_t begin_ticks(const char *stat) {
    const char *p = strrchr(stat, ')');
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p, ' ');
        p = p ? p + 1 : NULL;
    }
    return p ? strtoll(p, NULL, 10) : 0;
}

uint64_t report_before_usec(void) {
    char stat[1024];
    struct timespec now;
    if (io_read_proc("/proc/self/stat", stat, sizeof(stat), NULL) < 0 ||
            clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        return 0;
    int64_t now_usec = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    int64_t since = now_usec - begin_ticks(stat) * 1000000 / sysconf(_SC_CLK_TCK);
    return since > 0 && since < now_usec ? (uint64_t)since : 0;
}

void report_json(Startup *s, uint64_t before_usec, json_t *detail) {
    StepReport reports[GRAPH_MAX_STEPS];
    size_t n = s ? startup_timeline(s, reports) : 0;
    json_t *steps = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(steps,
                json_pack("{s:s, s:s, s:i, s:f, s:f, s:i, s:s}", "name", reports[i].name, "outcome",
                        step_outcome_name(reports[i].outcome), "tries", reports[i].tries, "start",
                        (double)reports[i].start_usec / 1e6, "end",
                        (double)reports[i].end_usec / 1e6, "last_need", reports[i].last_need,
                        "error", reports[i].err.code ? err_text(&reports[i].err) : ""));
    (void)json_object_set_new(detail, "start", steps);
    (void)json_object_set_new(detail, "seconds_before_start", json_real((double)before_usec / 1e6));
}

static void log_timeline(const StepReport *reports, size_t n) {
    static const char *const fields[] = {"PHASE=start", NULL};
    Buf text = {0};
    timeline_text(reports, n, LOG_COLUMNS, &text);
    if (!buf_failed(&text))
        for (char *rest = NULL, *line = strtok_r(text.data, "\n", &rest); line;
                line = strtok_r(NULL, "\n", &rest))
            log_line(LOG_INFO, fields, "%s", line);
    buf_done(&text);
}

/* What did not go as it should and was mended, or gone on without; why a start was given up is told
 * with the refusal. A segment that nobody filled is no fault. */
static void log_remark(const StepReport *r) {
    bool unfilled = r->outcome == STEP_FELL_BACK && r->err.code == -ENOENT;
    int priority = unfilled ? LOG_INFO : LOG_WARNING;
    _cleanup_free_ char *step = str_format("STEP=%s", r->name);
    const char *const fields[] = {"PHASE=start", step, NULL};
    const char *why = err_text(&r->err);
    if (!step || !r->err.code)
        return;
    if (r->outcome == STEP_DONE && r->tries > 1)
        log_line(priority, fields, "Step '%s' of the start: %s, done at attempt %d", r->name, why,
                r->tries);
    else if (r->outcome == STEP_DONE)
        log_line(priority, fields, "Step '%s' of the start: %s, going on", r->name, why);
    else if (r->outcome == STEP_FELL_BACK)
        log_line(
                priority, fields, "Step '%s' of the start: %s, taking the other way", r->name, why);
    else if (r->outcome == STEP_FAILED || r->outcome == STEP_TIMED_OUT)
        log_line(priority, fields, "Step '%s' of the start: %s, going on without", r->name, why);
}

double report_seconds(Startup *s, uint64_t before_usec) {
    StepReport reports[GRAPH_MAX_STEPS];
    size_t n = startup_timeline(s, reports);
    return (double)(before_usec + timeline_end_usec(reports, n)) / 1e6;
}

void report_log(Startup *s, uint64_t before_usec, const StartupState *state, const char *variant) {
    StepReport reports[GRAPH_MAX_STEPS];
    size_t n = startup_timeline(s, reports);
    for (size_t i = 0; i < n && state->stage == STARTUP_READY; i++)
        log_remark(&reports[i]);
    log_timeline(reports, n);
    double seconds = report_seconds(s, before_usec);
    const char *tier = job_start_name(state->start);
    Buf path = {0};
    timeline_path(reports, n, &path);
    _cleanup_free_ char *seconds_field = str_format("SECONDS=%.3f", seconds);
    _cleanup_free_ char *start_field = str_format("START=%s", tier ? tier : "unknown");
    _cleanup_free_ char *variant_field = str_format("VARIANT=%s", variant);
    if (!buf_failed(&path) && seconds_field && start_field && variant_field) {
        const char *const fields[] = {
                "PHASE=start", seconds_field, start_field, variant[0] ? variant_field : NULL, NULL};
        log_line(LOG_INFO, fields,
                "%s%s%s in %.3f s, %.3f s of it before the first step; waited for %s",
                state->stage == STARTUP_READY ? "Started" : "Gave up the start",
                variant[0] ? " with variant " : "", variant, seconds, (double)before_usec / 1e6,
                path.data);
    }
    buf_done(&path);
}

/* One line a kind: its name and seconds. */
void report_read(const char *state_dir, ReportTimes *ret) {
    _cleanup_free_ char *path = str_format("%s/start-times", state_dir);
    char text[256], name[32];
    double seconds;
    *ret = (ReportTimes){0};
    if (!path || io_read_proc(path, text, sizeof(text), NULL) < 0)
        return;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        JobStart start;
        if (sscanf(line, "%31s %lf", name, &seconds) == 2 && job_start_parse(name, &start) == 0 &&
                seconds > 0 && seconds < 86400)
            ret->seconds[start] = seconds;
    }
}

void report_keep(Startup *s, const char *state_dir, const StartupState *state, ReportTimes *times) {
    StepReport reports[GRAPH_MAX_STEPS];
    size_t n = startup_timeline(s, reports);
    if (state->stage != STARTUP_READY || !job_start_name(state->start))
        return;
    times->seconds[state->start] = (double)timeline_end_usec(reports, n) / 1e6;
    Buf text = {0};
    for (int i = 0; i < N_JOB_STARTS; i++)
        if (times->seconds[i] > 0)
            buf_printf(&text, "%s %.3f\n", job_start_name((JobStart)i), times->seconds[i]);
    _cleanup_free_ char *path = str_format("%s/start-times", state_dir);
    if (path && !buf_failed(&text))
        (void)io_write_file(AT_FDCWD, path, text.data, text.size, 0640, NULL); /* a guess less */
    buf_done(&text);
}
