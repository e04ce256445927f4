#include "ctl/jobs.h"

#include "base/json.h"
#include "base/str.h"
#include "ctl/exit.h"
#include "ctl/generate.h"
#include "ctl/terminal.h"
#include "ctl/video-json.h"

#include <time.h>

/* clang-format off */
static const Option list_options[] = {
    {"limit", 'n', OPTION_WHOLE, offsetof(JobsListOptions, limit), "N",  "how many, 1 to 100; 20 otherwise"},
    {"json",   0,  OPTION_FLAG,  offsetof(JobsListOptions, json),  NULL, "print the list object"},
};
static const Option get_options[] = {
    {"output", 'o', OPTION_TEXT, offsetof(JobsGetOptions, output), "FILE", "where the MP4 goes; ID.mp4 otherwise"},
};
/* clang-format on */

const OptionTable jobs_list_table = {
        .command = "list",
        .operands = "",
        .summary = "Lists the jobs that the server knows, newest first.",
        .option = list_options,
        .n_options = ARRAY_LEN(list_options),
};

const OptionTable jobs_cancel_table = {
        .command = "cancel",
        .operands = "ID",
        .summary = "Cancels a job, or removes a finished one with its video.",
        .min_operands = 1,
        .max_operands = 1,
};

const OptionTable jobs_get_table = {
        .command = "get",
        .operands = "ID",
        .summary = "Downloads a finished video.",
        .option = get_options,
        .n_options = ARRAY_LEN(get_options),
        .min_operands = 1,
        .max_operands = 1,
};

static int check_id(const char *id, Err *err) {
    if (!video_json_id_ok(id))
        return err_set(err, CTL_USAGE, "'%s' is no job's id; 'preheatctl list' shows them", id);
    return 0;
}

static void print_job(const VideoJson *v, int columns, FILE *out) {
    Buf line = {0};
    char when[32] = "";
    time_t created = (time_t)v->created_at;
    struct tm parts;
    if (localtime_r(&created, &parts))
        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &parts);
    int used = terminal_text(&line, v->id, 38);
    buf_printf(&line, "%*s  ", 38 - used, "");
    used = terminal_text(&line, v->status, 11);
    buf_printf(&line, "%*s  %3d %%  %s  ", 11 - used, "", (int)v->percent, when);
    used = terminal_text(&line, v->size, 9);
    buf_printf(&line, "%*s x%-3jd  ", 9 - used, "", (intmax_t)v->num_frames);
    int left = columns ? columns - (int)line.size : 0;
    const char *text = v->error_message[0] ? v->error_message : v->prompt;
    if (columns && left < 16) { /* a line of its own */
        buf_printf(&line, "\n    ");
        left = MAX(columns - 4, 16);
    }
    (void)terminal_text(&line, text, left);
    if (!buf_failed(&line))
        (void)fprintf(out, "%s\n", line.data);
    buf_done(&line);
}

int jobs_print(const json_t *list, int columns, FILE *out, Err *err) {
    const json_t *data = json_object_get(list, "data");
    if (!json_is_array(data))
        return err_set(err, -EPROTO, "the server's answer is no list of videos");
    size_t i;
    const json_t *object;
    json_array_foreach(data, i, object) {
        VideoJson v;
        int r = video_json_read(object, &v, err);
        if (r < 0)
            return r;
        print_job(&v, columns, out);
    }
    return 0;
}

int jobs_list(Client *c, const JobsListOptions *o, int columns, FILE *out, Err *err) {
    int64_t limit = 20;
    if (o->limit && (str_to_i64(o->limit, &limit) < 0 || limit < 1 || limit > 100))
        return err_set(err, CTL_USAGE, "--limit is %s, 1 to 100 are allowed", o->limit);
    char path[64];
    (void)snprintf(path, sizeof(path), "/v1/videos?limit=%jd&order=desc", (intmax_t)limit);
    _cleanup_json_ json_t *list = NULL;
    int r = client_get(c, path, &list, err);
    if (r < 0)
        return r;
    if (!o->json)
        return jobs_print(list, columns, out, err);
    (void)json_dumpf(list, out, VIDEO_JSON_DUMP);
    (void)fputc('\n', out);
    return 0;
}

int jobs_cancel(Client *c, const char *id, FILE *out, Err *err) {
    int r = check_id(id, err);
    if (r < 0)
        return r;
    char path[96];
    (void)snprintf(path, sizeof(path), "/v1/videos/%.64s", id);
    _cleanup_json_ json_t *answer = NULL;
    r = client_delete(c, path, &answer, err);
    if (r == 0)
        (void)fprintf(out, "%s is cancelled and removed\n", id);
    return r;
}

int jobs_get(Client *c, const char *id, const JobsGetOptions *o, FILE *out, Err *err) {
    int r = check_id(id, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *default_path = str_format("%s.mp4", id);
    const char *path = o->output ? o->output : default_path;
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    r = generate_fetch(c, id, path, err);
    if (r == 0 && !str_eq(path, "-"))
        (void)fprintf(out, "%s\n", path);
    return r;
}
