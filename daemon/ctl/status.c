#include "ctl/status.h"

#include "base/json.h"
#include "base/str.h"
#include "ctl/jobs.h"
#include "ctl/terminal.h"
#include "ctl/units.h"
#include "ctl/video-json.h"

static const Option options[] = {
        {"json", 0, OPTION_FLAG, offsetof(StatusOptions, json), NULL, "print all of it as JSON"},
        {"wake", 0, OPTION_FLAG, offsetof(StatusOptions, wake), NULL,
                "ask the daemon even when that starts it"},
};

const OptionTable status_table = {
        .command = "status",
        .operands = "",
        .summary = "Shows daemon, model, weights, huge pages and jobs. A daemon that sleeps is\n"
                   "not woken.",
        .option = options,
        .n_options = ARRAY_LEN(options),
};

static const char *text_at(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_int_t whole_at(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

/* The sentence of a refusal is an answer, too: the daemon is there and says why it does not work.
 */
static void ask(Client *c, json_t *all) {
    Err err = {0};
    json_t *health = NULL, *jobs = NULL;
    if (client_health(c, &health, &err) < 0) {
        (void)json_object_set_new(all, "daemon",
                json_pack("{ss ss}", "state", "no answer", "reason", err_text(&err)));
        return;
    }
    (void)json_object_set_new(all, "health", health);
    (void)json_object_set_new(all, "daemon", json_pack("{ss}", "state", "running"));
    if (client_get(c, "/v1/videos?limit=5&order=desc", &jobs, NULL) == 0)
        (void)json_object_set_new(all, "jobs", jobs);
}

int status_run(Client *c, json_t *local, const StatusOptions *o, int columns, FILE *out, Err *err) {
    if (!o->wake && units_sleep(json_object_get(local, "units")))
        (void)json_object_set_new(local, "daemon",
                json_pack("{ss ss}", "state", "asleep", "reason",
                        "systemd listens; the next request starts it"));
    else
        ask(c, local);
    if (!o->json) {
        status_print(local, columns, out);
        return 0;
    }
    if (json_dumpf(local, out, VIDEO_JSON_DUMP) < 0)
        return err_set(err, -ENOMEM, "no memory for the status");
    (void)fputc('\n', out);
    return 0;
}

/* "name      text", the text from outside. */
static void print_line(FILE *out, const char *name, Buf *text, int columns) {
    Buf line = {0};
    buf_printf(&line, "%-12s", name);
    terminal_wrapped(&line, text->data ? text->data : "", columns, 12);
    if (!buf_failed(&line))
        (void)fprintf(out, "%s\n", line.data);
    buf_done(&line);
    buf_done(text);
}

static void print_daemon(const json_t *all, int columns, FILE *out) {
    const json_t *daemon = json_object_get(all, "daemon"), *health = json_object_get(all, "health");
    Buf text = {0};
    const char *state = text_at(health, "phase");
    buf_printf(&text, "%s", state[0] ? state : text_at(daemon, "state"));
    const json_t *percent = json_object_get(health, "percent");
    const char *reason = text_at(health, "reason");
    if (!reason[0] && json_is_integer(percent) && json_integer_value(percent) < 100)
        buf_printf(&text, ", %jd %%", (intmax_t)json_integer_value(percent));
    reason = reason[0] ? reason : text_at(daemon, "reason");
    if (reason[0])
        buf_printf(&text, ": %s", reason);
    print_line(out, "daemon", &text, columns);
}

static void print_model(const json_t *model, int columns, FILE *out) {
    Buf text = {0};
    buf_printf(&text, "%s", text_at(model, "name"));
    if (text_at(model, "problem")[0]) {
        buf_printf(&text, ": %s", text_at(model, "problem"));
    } else {
        buf_printf(&text, ", ");
        terminal_bytes(&text, (double)whole_at(model, "weight_bytes"));
        buf_printf(&text, " in %jd files of %s", (intmax_t)whole_at(model, "n_files"),
                text_at(model, "root"));
    }
    print_line(out, "model", &text, columns);
}

/* ", 9000 huge pages of 2 MiB in '/run/preheat/weights/wan', 3.9 GB of shared memory in ..." */
static void print_files(const json_t *files, Buf *text) {
    size_t i;
    const json_t *file;
    json_array_foreach(files, i, file) {
        json_int_t bytes = whole_at(file, "bytes"), page = whole_at(file, "page_bytes");
        buf_printf(text, "%s", i == 0 ? " in " : ", ");
        if (str_eq(text_at(file, "backing"), "huge pages") && page >= 1 << 20) {
            bool gigantic = page >= 1 << 30;
            buf_printf(text, "%jd huge pages of %jd %s", (intmax_t)(bytes / page),
                    (intmax_t)(gigantic ? page >> 30 : page >> 20), gigantic ? "GiB" : "MiB");
        } else {
            terminal_bytes(text, (double)bytes);
            buf_printf(text, " of %s", text_at(file, "backing"));
        }
        buf_printf(text, " at '%s'", text_at(file, "path"));
    }
}

/* Where the weights are, and with that how far a request is from its first step. */
static void print_tier(const json_t *all, int columns, FILE *out) {
    const json_t *segment = json_object_get(all, "segment");
    json_int_t n_ready = whole_at(segment, "n_ready"), n_chunks = whole_at(segment, "n_chunks"),
               n_bad = whole_at(segment, "n_bad");
    Buf text = {0};
    if (str_eq(text_at(json_object_get(all, "health"), "phase"), "serving"))
        buf_printf(&text, "hot");
    else if (json_is_true(json_object_get(json_object_get(all, "keeping"), "parked")))
        buf_printf(&text, "vram, parked on the card; in memory");
    else if (n_ready)
        buf_printf(&text, "host");
    else if (json_is_true(json_object_get(segment, "denied")))
        buf_printf(&text, "not shown to you");
    else
        buf_printf(&text, "disk");
    if (n_chunks)
        buf_printf(&text, ": %jd of %jd chunks", (intmax_t)n_ready, (intmax_t)n_chunks);
    print_files(json_object_get(segment, "files"), &text);
    if (n_bad)
        buf_printf(&text, ", %jd bad", (intmax_t)n_bad);
    if (json_is_true(json_object_get(segment, "filling")))
        buf_printf(&text, ", being filled");
    if (text_at(segment, "problem")[0])
        buf_printf(&text, "; %s", text_at(segment, "problem"));
    print_line(out, "weights", &text, columns);
}

/* With percent, GB/s and what is left while it loads, and what it took afterwards. */
static void print_warm_up(const json_t *all, int columns, FILE *out) {
    Buf text = {0};
    buf_printf(&text, "%s", text_at(json_object_get(all, "keeping"), "warm_up"));
    if (text.size)
        print_line(out, "warm-up", &text, columns);
    else
        buf_done(&text);
}

static void print_pages(const json_t *pages, int columns, FILE *out) {
    Buf text = {0};
    json_int_t surplus = whole_at(pages, "surplus");
    buf_printf(&text, "%jd of 2 MiB, %jd free, %jd surplus, up to %jd more on demand",
            (intmax_t)whole_at(pages, "total"), (intmax_t)whole_at(pages, "free"),
            (intmax_t)surplus,
            (intmax_t)MAX(whole_at(pages, "overcommit") - surplus, (json_int_t)0));
    if (whole_at(pages, "needed"))
        buf_printf(&text, "; the model takes %jd", (intmax_t)whole_at(pages, "needed"));
    print_line(out, "huge pages", &text, columns);
}

static void print_units(const json_t *units, int columns, FILE *out) {
    Buf text = {0};
    const char *name;
    json_t *state;
    json_object_foreach((json_t *)units, name, state)
            buf_printf(&text, "%s%s %s", text.size ? ", " : "", name, json_string_value(state));
    if (text.size)
        print_line(out, "units", &text, columns);
}

static void print_queue(const json_t *queue, int columns, FILE *out) {
    Buf text = {0};
    buf_printf(&text, "%jd waiting of at most %jd, %jd running",
            (intmax_t)whole_at(queue, "queued"), (intmax_t)whole_at(queue, "limit"),
            (intmax_t)whole_at(queue, "running"));
    const json_t *eta = json_object_get(queue, "eta_seconds");
    if (json_is_number(eta) && whole_at(queue, "queued") + whole_at(queue, "running") > 0) {
        buf_printf(&text, ", done in ");
        terminal_duration(&text, json_number_value(eta));
    }
    print_line(out, "queue", &text, columns);
}

static void print_jobs(const json_t *jobs, int columns, FILE *out) {
    if (!json_array_size(json_object_get(jobs, "data")))
        return;
    (void)fprintf(out, "\n");
    (void)jobs_print(jobs, columns, out, NULL); /* a list of another kind is no list to show */
}

void status_print(const json_t *all, int columns, FILE *out) {
    print_daemon(all, columns, out);
    if (json_object_get(all, "model"))
        print_model(json_object_get(all, "model"), columns, out);
    if (json_object_get(all, "segment"))
        print_tier(all, columns, out);
    print_warm_up(all, columns, out);
    if (json_object_get(all, "huge_pages"))
        print_pages(json_object_get(all, "huge_pages"), columns, out);
    print_units(json_object_get(all, "units"), columns, out);
    const json_t *queue = json_object_get(json_object_get(all, "health"), "queue");
    if (json_is_object(queue))
        print_queue(queue, columns, out);
    print_jobs(json_object_get(all, "jobs"), columns, out);
}
