#include "ctl/start-report.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "ctl/exit.h"
#include "ctl/output.h"
#include "ctl/terminal.h"
#include "ctl/units.h"
#include "ctl/video-json.h"
#include "startgraph/timeline.h"

static const Option options[] = {
        {"svg", 0, OPTION_TEXT, offsetof(StartReportOptions, svg), "FILE",
                "draw it into this file, - for standard output"},
        {"compare", 0, OPTION_FLAG, offsetof(StartReportOptions, compare), NULL,
                "set the starts with each of start_variants side by side"},
        {"json", 0, OPTION_FLAG, offsetof(StartReportOptions, json), NULL, "print it as JSON"},
        {"wake", 0, OPTION_FLAG, offsetof(StartReportOptions, wake), NULL,
                "start a daemon that sleeps, and report that start"},
};

const OptionTable start_report_table = {
        .command = "start-report",
        .operands = "",
        .summary = "Shows the steps of the daemon's last start with its critical path.",
        .option = options,
        .n_options = ARRAY_LEN(options),
};

/* A day: what a daemon of ours cannot have needed. */
#define MAX_STEP_SEC 86400.0

typedef struct Report {
    StepReport step[GRAPH_MAX_STEPS]; /* the names are borrowed from the answer */
    const char *error[GRAPH_MAX_STEPS];
    size_t n;
    double before_sec;
} Report;

static int outcome_parse(const char *name, StepOutcome *ret) {
    for (int i = 0; i < N_STEP_OUTCOMES; i++)
        if (str_eq(step_outcome_name((StepOutcome)i), name)) {
            *ret = (StepOutcome)i;
            return 0;
        }
    return -EINVAL;
}

static int read_step(const json_t *j, size_t index, size_t n, Report *report, Err *err) {
    StepReport *s = &report->step[index];
    const char *outcome = "";
    double start = 0, end = 0;
    int64_t tries = 0, last_need = -1;
    if (!json_is_object(j))
        return err_set(err, -EINVAL, "step %zu is no object", index);
    int r = json_get_string(j, "start", "name", JSON_REQUIRED, &s->name, err);
    if (r == 0)
        r = json_get_string(j, "start", "outcome", JSON_REQUIRED, &outcome, err);
    if (r == 0)
        r = json_get_int(j, "start", "tries", JSON_REQUIRED, 0, INT32_MAX, &tries, err);
    if (r == 0)
        r = json_get_real(j, "start", "start", JSON_REQUIRED, &start, err);
    if (r == 0)
        r = json_get_real(j, "start", "end", JSON_REQUIRED, &end, err);
    if (r == 0)
        r = json_get_int(
                j, "start", "last_need", JSON_REQUIRED, -1, (int64_t)n - 1, &last_need, err);
    if (r == 0)
        r = json_get_string(j, "start", "error", JSON_OPTIONAL, &report->error[index], err);
    if (r < 0)
        return r;
    if (outcome_parse(outcome, &s->outcome) < 0)
        return err_set(
                err, -EINVAL, "step '%.60s' is '%.60s', which is no outcome", s->name, outcome);
    if (strspn(s->name, "abcdefghijklmnopqrstuvwxyz0123456789_-.") != strlen(s->name))
        return err_set(err, -EINVAL, "a step's name is of other characters than a-z, 0-9, _-.");
    bool runs = s->outcome == STEP_RUNNING;
    if (!(start >= 0 && start < MAX_STEP_SEC && (runs || (end >= start && end < MAX_STEP_SEC))))
        return err_set(err, -EINVAL, "step '%.60s' goes from %g s to %g s", s->name, start, end);
    s->start_usec = (uint64_t)(start * 1e6);
    s->end_usec = runs ? s->start_usec : (uint64_t)(end * 1e6);
    s->tries = (int)tries;
    s->last_need = (int)last_need;
    return 0;
}

/* Steps that wait for each other's end in a circle: following them would not end. */
static bool needs_form_a_circle(const Report *report) {
    for (size_t i = 0; i < report->n; i++) {
        size_t n_followed = 0;
        for (int at = (int)i; at >= 0; at = report->step[at].last_need)
            if (n_followed++ > report->n)
                return true;
    }
    return false;
}

static int read_report(const json_t *detail, Report *report, Err *err) {
    const json_t *start = json_object_get(detail, "start");
    *report = (Report){.n = json_array_size(start)};
    if (report->n == 0)
        return err_set(err, -ESRCH, "the daemon has not begun to open a model");
    if (report->n > GRAPH_MAX_STEPS)
        return err_set(err, -EPROTO, "a start of %zu steps, %d are the most", report->n,
                (int)GRAPH_MAX_STEPS);
    int r = json_get_real(
            detail, "detail", "seconds_before_start", JSON_OPTIONAL, &report->before_sec, err);
    for (size_t i = 0; r == 0 && i < report->n; i++)
        r = read_step(json_array_get(start, i), i, report->n, report, err);
    if (r == 0 && needs_form_a_circle(report))
        r = err_set(err, -EINVAL, "steps wait for each other");
    return r < 0 ? err_prefix(err, -EPROTO, "the start's report") : 0;
}

static void report_text(const Report *report, int columns, Buf *out) {
    timeline_text(report->step, report->n, columns > 0 ? columns : 80, out);
    buf_printf(out, "before the first step: %.2f s; waited for ", report->before_sec);
    timeline_path(report->step, report->n, out);
    buf_printf(out, "\n");
    for (size_t i = 0; i < report->n; i++) {
        if (!report->error[i] || !*report->error[i])
            continue;
        buf_printf(out, "%s: ", report->step[i].name);
        (void)terminal_text(out, report->error[i], 0);
        buf_printf(out, "\n");
    }
}

int start_report_print(const json_t *detail, int columns, FILE *out, Err *err) {
    Report report;
    Buf text = {0};
    int r = read_report(detail, &report, err);
    if (r < 0)
        return r;
    report_text(&report, columns, &text);
    if (buf_failed(&text))
        r = err_set(err, -ENOMEM, "no memory for the report");
    else
        (void)fputs(text.data, out);
    buf_done(&text);
    return r;
}

typedef struct VariantRow {
    const char *variant, *start;
    int64_t starts, failed;
    double median_sec, worst_sec;
} VariantRow;

static int read_variant(const json_t *j, VariantRow *ret, Err *err) {
    static const char at[] = "variants";
    if (!json_is_object(j))
        return err_set(err, -EINVAL, "a variant is no object");
    int r = json_get_string(j, at, "variant", JSON_REQUIRED, &ret->variant, err);
    if (r == 0)
        r = json_get_string(j, at, "start", JSON_REQUIRED, &ret->start, err);
    if (r == 0)
        r = json_get_int(j, at, "starts", JSON_REQUIRED, 0, INT32_MAX, &ret->starts, err);
    if (r == 0)
        r = json_get_int(j, at, "failed", JSON_REQUIRED, 0, ret->starts, &ret->failed, err);
    if (r == 0)
        r = json_get_real(j, at, "median_seconds", JSON_REQUIRED, &ret->median_sec, err);
    if (r == 0)
        r = json_get_real(j, at, "worst_seconds", JSON_REQUIRED, &ret->worst_sec, err);
    return r;
}

static void print_cell(Buf *line, const char *text, int width) {
    int taken = terminal_text(line, text, width);
    buf_printf(line, "%*s ", width - taken, "");
}

int start_report_compare(const json_t *detail, FILE *out, Err *err) {
    const json_t *variants = json_object_get(detail, "variants");
    if (!json_is_array(variants))
        return err_set(err, -ESRCH, "there are no variants: [daemon] start_variants is empty");
    if (json_array_size(variants) == 0)
        return err_set(err, -ESRCH, "no start with a variant has ended yet");
    Buf text = {0};
    buf_printf(&text, "%-24s %-12s %6s %6s %9s %9s\n", "VARIANT", "START", "STARTS", "FAILED",
            "MEDIAN s", "WORST s");
    int r = 0;
    for (size_t i = 0; i < json_array_size(variants) && r == 0; i++) {
        VariantRow v = {0};
        r = read_variant(json_array_get(variants, i), &v, err);
        if (r < 0)
            break;
        print_cell(&text, v.variant, 24);
        print_cell(&text, v.start, 12);
        buf_printf(&text, "%6jd %6jd %9.3f %9.3f\n", (intmax_t)v.starts, (intmax_t)v.failed,
                v.median_sec, v.worst_sec);
    }
    if (r == 0 && buf_failed(&text))
        r = err_set(err, -ENOMEM, "no memory for the comparison");
    else if (r == 0)
        (void)fputs(text.data, out);
    else
        r = err_prefix(err, -EPROTO, "the daemon's report");
    buf_done(&text);
    return r;
}

static int write_svg(const json_t *detail, const char *path, Err *err) {
    Report report;
    Buf picture = {0};
    _cleanup_(output_done) Output output = {.fd = -1};
    int r = read_report(detail, &report, err);
    if (r == 0)
        r = output_open(path, &output, err);
    if (r < 0)
        return r;
    timeline_svg(report.step, report.n, &picture);
    if (buf_failed(&picture))
        r = err_set(err, -ENOMEM, "no memory for the picture");
    if (r == 0) {
        r = io_write_all(output.fd, picture.data, picture.size);
        if (r < 0)
            (void)err_set(err, r, "cannot write '%s': %s", path, strerror(-r));
    }
    buf_done(&picture);
    return r == 0 ? output_publish(&output, err) : r;
}

static int print_json(const json_t *detail, FILE *out, Err *err) {
    _cleanup_json_ json_t *j = json_pack("{s:O?, s:O?, s:O*, s:O*}", "start",
            json_object_get(detail, "start"), "seconds_before_start",
            json_object_get(detail, "seconds_before_start"), "variant",
            json_object_get(detail, "variant"), "variants", json_object_get(detail, "variants"));
    if (!j || json_dumpf(j, out, VIDEO_JSON_DUMP) < 0)
        return err_set(err, -ENOMEM, "no memory for the report");
    (void)fputc('\n', out);
    return 0;
}

static bool is_under_way(const json_t *health) {
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(json_object_get(health, "detail"), "start"), i, step) {
        const char *outcome = json_string_value(json_object_get(step, "outcome"));
        if (outcome && (str_eq(outcome, step_outcome_name(STEP_PENDING)) ||
                               str_eq(outcome, step_outcome_name(STEP_RUNNING))))
            return true;
    }
    return false;
}

static int ask(Client *c, bool patient, Signals *signals, json_t **ret, Err *err) {
    for (;;) {
        _cleanup_json_ json_t *health = NULL;
        int r = client_health(c, &health, err);
        if (r < 0)
            return r;
        if (!patient || !is_under_way(health)) {
            *ret = TAKE_PTR(health);
            return 0;
        }
        if (signals_wait(signals, 100 * USEC_PER_MSEC))
            return err_set(err, CTL_INTERRUPTED, "interrupted");
    }
}

int start_report_run(Client *c, const json_t *units, const StartReportOptions *o, Signals *signals,
        int columns, FILE *out, Err *err) {
    _cleanup_json_ json_t *health = NULL;
    if (!o->wake && units_sleep(units))
        return err_set(err, -ESRCH,
                "preheatd sleeps; its last start is in the journal: journalctl -u "
                "preheatd.service PHASE=start, or give --wake");
    int r = ask(c, o->wake, signals, &health, err);
    if (r < 0)
        return r;
    const json_t *detail = json_object_get(health, "detail");
    if (o->svg)
        return write_svg(detail, o->svg, err);
    if (o->compare && !o->json)
        return start_report_compare(detail, out, err);
    return o->json ? print_json(detail, out, err) : start_report_print(detail, columns, out, err);
}
