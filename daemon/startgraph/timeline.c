#include "startgraph/timeline.h"

#include <string.h>

uint64_t timeline_end_usec(const StepReport *reports, size_t n) {
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++)
        end = MAX(end, reports[i].end_usec);
    return end;
}

static bool has_run(const StepReport *r) {
    return r->tries > 0;
}

/* A step that was skipped has an end, and took no time. */
static double seconds_of(const StepReport *r) {
    return has_run(r) && r->end_usec > r->start_usec ? (double)(r->end_usec - r->start_usec) / 1e6
                                                     : 0;
}

void timeline_critical_path(const StepReport *reports, size_t n, bool *ret_critical) {
    int last = -1;
    for (size_t i = 0; i < n; i++) {
        ret_critical[i] = false;
        if (has_run(&reports[i]) && (last < 0 || reports[i].end_usec > reports[last].end_usec))
            last = (int)i;
    }
    for (; last >= 0; last = reports[last].last_need)
        ret_critical[last] = true;
}

void timeline_path(const StepReport *reports, size_t n, Buf *out) {
    bool critical[GRAPH_MAX_STEPS];
    timeline_critical_path(reports, n, critical);
    size_t empty = out->size;
    for (uint64_t after = 0;;) {
        const StepReport *next = NULL; /* steps of the path end one after the other */
        for (size_t i = 0; i < n; i++)
            if (critical[i] && reports[i].end_usec > after &&
                    (!next || reports[i].end_usec < next->end_usec))
                next = &reports[i];
        if (!next)
            break;
        after = next->end_usec;
        buf_printf(out, "%s%s %.3f s", out->size > empty ? ", " : "", next->name, seconds_of(next));
    }
    if (out->size == empty)
        buf_printf(out, "no step");
}

static void text_bar(const StepReport *r, uint64_t end, int width, bool critical, Buf *out) {
    int from = (int)(r->start_usec * (uint64_t)width / end);
    int to = MAX((int)(r->end_usec * (uint64_t)width / end), from + 1);
    for (int i = 0; i < width; i++)
        buf_append(out, !has_run(r) || i < from || i >= to ? " " : critical ? "#" : "=", 1);
}

void timeline_text(const StepReport *reports, size_t n, int columns, Buf *out) {
    int name_width = 4;
    for (size_t i = 0; i < n; i++)
        name_width = MAX(name_width, (int)strlen(reports[i].name));
    name_width = MIN(name_width, 24);
    int bar_width = MAX(columns, 60) - name_width - 24;
    uint64_t end = MAX(timeline_end_usec(reports, n), (uint64_t)1);

    bool critical[GRAPH_MAX_STEPS];
    timeline_critical_path(reports, n, critical);
    for (size_t i = 0; i < n; i++) {
        const StepReport *r = &reports[i];
        buf_printf(out, "%-*.*s |", name_width, name_width, r->name);
        text_bar(r, end, bar_width, critical[i], out);
        buf_printf(out, "| %7.3f s %s", seconds_of(r), step_outcome_name(r->outcome));
        if (r->tries > 1)
            buf_printf(out, ", %d tries", r->tries);
        buf_append(out, "\n", 1);
    }
    buf_printf(out, "%.3f s in all; # is the critical path\n", (double)end / 1e6);
}

static void svg_escaped(const char *text, Buf *out) {
    for (; *text; text++)
        switch (*text) {
        case '<':
            buf_printf(out, "&lt;");
            break;
        case '&':
            buf_printf(out, "&amp;");
            break;
        default:
            buf_append(out, text, 1);
        }
}

void timeline_svg(const StepReport *reports, size_t n, Buf *out) {
    enum { ROW = 22, LEFT = 180, BAR = 560, RIGHT = 180 };
    uint64_t end = MAX(timeline_end_usec(reports, n), (uint64_t)1);
    bool critical[GRAPH_MAX_STEPS];
    timeline_critical_path(reports, n, critical);
    buf_printf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n",
            LEFT + BAR + RIGHT, (n + 1) * ROW);
    for (size_t i = 0; i < n; i++) {
        const StepReport *r = &reports[i];
        size_t y = i * ROW;
        buf_printf(out, "<text x=\"4\" y=\"%zu\">", y + 15);
        svg_escaped(r->name, out);
        buf_printf(out, "</text>");
        double x = LEFT + (double)r->start_usec / (double)end * BAR;
        double width = seconds_of(r) * 1e6 / (double)end * BAR;
        if (has_run(r))
            buf_printf(out, "<rect x=\"%.1f\" y=\"%zu\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>",
                    x, y + 3, MAX(width, 1.0), ROW - 6, critical[i] ? "#c0392b" : "#7f9fbf");
        buf_printf(out, "<text x=\"%d\" y=\"%zu\">%.3f s, %s</text>\n", LEFT + BAR + 8, y + 15,
                seconds_of(r), step_outcome_name(r->outcome));
    }
    buf_printf(out,
            "<text x=\"4\" y=\"%zu\">%.3f s in all; the critical path is red</text>\n</svg>\n",
            n * ROW + 15, (double)end / 1e6);
}
