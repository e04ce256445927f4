#include "preheatd-variant.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define RUNS_MAX_BYTES ((size_t)65536)

/* Names stand in the journal and, with others, on a line of start-runs. */
static int set_name(Variant *v, Err *err) {
    static const char letters[] =
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *slash = strrchr(v->path, '/');
    size_t n = slash ? strlen(slash + 1) : 0;
    if (v->path[0] != '/' || n <= 5 || n - 5 >= sizeof(v->name) || !str_ends(v->path, ".conf") ||
            strspn(slash + 1, letters) != n)
        return err_set(err, -EINVAL,
                "[daemon] start_variants: '%.100s' is no absolute path of a file NAME.conf, NAME "
                "of at most %d letters, digits and ._-",
                v->path, VARIANT_NAME_SIZE - 1);
    memcpy(v->name, slash + 1, n - 5);
    v->name[n - 5] = '\0';
    return 0;
}

static int draw(const Config *config, Variant *ret, Err *err) {
    Variant found[VARIANT_MAX] = {0};
    size_t n = 0;
    *ret = (Variant){0};
    _cleanup_free_ char *list = strdup(config->daemon.start_variants);
    if (!list)
        return err_set(err, -ENOMEM, "no memory for the variants");
    char *rest = NULL;
    for (char *path = strtok_r(list, " ", &rest); path; path = strtok_r(NULL, " ", &rest)) {
        if (n == VARIANT_MAX)
            return err_set(err, -EINVAL, "[daemon] start_variants: more than %d", (int)VARIANT_MAX);
        found[n].path = path;
        int r = set_name(&found[n++], err);
        if (r < 0)
            return r;
    }
    if (n == 0)
        return 0;
    uint32_t drawn;
    if (getrandom(&drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn))
        return err_set(err, -EIO, "no random numbers to draw a variant");
    *ret = found[drawn % n];
    ret->path = strdup(ret->path);
    return ret->path ? 0 : err_set(err, -ENOMEM, "no memory for the variants");
}

void variant_done(Variant *v) {
    free(v->path);
    json_decref(v->runs);
    *v = (Variant){0};
}

static char *read_runs(const char *state_dir) {
    _cleanup_free_ char *path = str_format("%s/start-runs", state_dir);
    char *text = NULL;
    size_t n;
    if (path && io_read_file(AT_FDCWD, path, RUNS_MAX_BYTES, &text, &n, NULL) == 0)
        return text;
    return strdup("");
}

/* The part of text that leaves room for one more line. */
static const char *youngest(const char *text) {
    size_t n = 0;
    for (const char *p = text; *p; p++)
        n += *p == '\n';
    for (; n >= VARIANT_MAX_RUNS; n--)
        text = strchr(text, '\n') + 1;
    return text;
}

void variant_keep(
        const Variant *v, const char *state_dir, const StartupState *state, double seconds) {
    const char *start = job_start_name(state->start);
    if (!v->path || state->stage == STARTUP_RUNNING)
        return;
    _cleanup_free_ char *old = read_runs(state_dir);
    _cleanup_free_ char *path = str_format("%s/start-runs", state_dir);
    Buf text = {0};
    if (old && path) {
        buf_printf(&text, "%s%s %s %.3f %s\n", youngest(old), v->name, start ? start : "unknown",
                seconds, state->stage == STARTUP_READY ? "ok" : "failed");
        if (!buf_failed(&text))
            (void)io_write_file(AT_FDCWD, path, text.data, text.size, 0640, NULL);
    }
    buf_done(&text);
}

/* The starts of one variant and kind. */
typedef struct Group {
    char name[VARIANT_NAME_SIZE], start[32];
    double seconds[VARIANT_MAX_RUNS]; /* of those that went well */
    size_t n_good, n_failed;
} Group;

enum { MAX_GROUPS = 64 };

static Group *group_of(Group *groups, size_t *n, const char *name, const char *start) {
    for (size_t i = 0; i < *n; i++)
        if (str_eq(groups[i].name, name) && str_eq(groups[i].start, start))
            return &groups[i];
    if (*n == MAX_GROUPS)
        return NULL;
    Group *g = &groups[(*n)++];
    (void)snprintf(g->name, sizeof(g->name), "%s", name);
    (void)snprintf(g->start, sizeof(g->start), "%s", start);
    return g;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t read_groups(char *text, Group *groups) {
    size_t n = 0;
    char name[VARIANT_NAME_SIZE], start[32], outcome[8], *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        double seconds;
        if (sscanf(line, "%63s %31s %lf %7s", name, start, &seconds, outcome) != 4)
            continue;
        Group *g = group_of(groups, &n, name, start);
        if (g && str_eq(outcome, "failed"))
            g->n_failed++;
        else if (g && g->n_good < VARIANT_MAX_RUNS)
            g->seconds[g->n_good++] = seconds;
    }
    return n;
}

static json_t *summary(const char *state_dir) {
    _cleanup_free_ char *text = read_runs(state_dir);
    _cleanup_free_ Group *groups = calloc(MAX_GROUPS, sizeof(*groups));
    json_t *list = json_array();
    size_t n = text && groups ? read_groups(text, groups) : 0;
    for (size_t i = 0; i < n; i++) {
        Group *g = &groups[i];
        qsort(g->seconds, g->n_good, sizeof(g->seconds[0]), by_value);
        double median = g->n_good ? g->seconds[g->n_good / 2] : 0;
        double worst = g->n_good ? g->seconds[g->n_good - 1] : 0;
        (void)json_array_append_new(list,
                json_pack("{s:s, s:s, s:I, s:I, s:f, s:f}", "variant", g->name, "start", g->start,
                        "starts", (json_int_t)(g->n_good + g->n_failed), "failed",
                        (json_int_t)g->n_failed, "median_seconds", median, "worst_seconds", worst));
    }
    return list;
}

int variant_load(const char *config_path, Variant *ret, Config **ret_config, Err *err) {
    _cleanup_(config_freep) Config *plain = NULL;
    *ret = (Variant){0};
    int r = config_load(config_path, &plain, err);
    if (r == 0)
        r = draw(plain, ret, err);
    if (r < 0)
        return r;
    if (!ret->path) {
        *ret_config = TAKE_PTR(plain);
        return 0;
    }
    ret->runs = summary(plain->jobs.state_dir);
    return config_load_variant(config_path, ret->path, ret_config, err);
}
