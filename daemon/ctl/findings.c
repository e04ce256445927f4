#include "ctl/findings.h"

#include "base/buf.h"
#include "ctl/terminal.h"

#include <stdarg.h>

static const char *const state_names[N_FINDING_STATES] = {"ok", "note", "problem"};

void findings_add(Findings *f, const char *name, FindingState state, const char *advice,
        const char *fmt, ...) {
    Finding *x = &f->item[f->n < FINDINGS_MAX ? f->n++ : FINDINGS_MAX - 1];
    *x = (Finding){.name = name, .state = state};
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(x->text, sizeof(x->text), fmt, ap);
    va_end(ap);
    if (advice)
        (void)snprintf(x->advice, sizeof(x->advice), "%s", advice);
}

size_t findings_count(const Findings *f, FindingState state) {
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->item[i].state == state;
    return n;
}

static void print_line(const Finding *x, int columns, FILE *out) {
    Buf text = {0}, line = {0};
    buf_printf(&text, "%s%s%s", x->text, x->advice[0] ? " -> " : "", x->advice);
    buf_printf(&line, "%-8s %-12s ", state_names[x->state], x->name);
    if (!buf_failed(&text))
        terminal_wrapped(&line, text.data, columns, 22);
    if (!buf_failed(&line))
        (void)fprintf(out, "%s\n", line.data);
    buf_done(&line);
    buf_done(&text);
}

void findings_print(const Findings *f, int columns, FILE *out) {
    for (size_t i = 0; i < f->n; i++)
        print_line(&f->item[i], columns, out);
    size_t n_problems = findings_count(f, FINDING_PROBLEM);
    size_t n_notes = findings_count(f, FINDING_NOTE);
    (void)fprintf(out, "%zu checks, %zu problem%s, %zu note%s\n", f->n, n_problems,
            n_problems == 1 ? "" : "s", n_notes, n_notes == 1 ? "" : "s");
}

json_t *findings_json(const Findings *f) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < f->n; i++) {
        const Finding *x = &f->item[i];
        if (json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?}", "check", x->name,
                                                "state", state_names[x->state], "found", x->text,
                                                "advice", x->advice[0] ? x->advice : NULL)) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
