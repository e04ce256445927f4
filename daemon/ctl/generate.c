#include "ctl/generate.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "ctl/exit.h"
#include "ctl/output.h"
#include "ctl/video-json.h"

#define POLL_USEC (300 * USEC_PER_MSEC)
/* A daemon that is restarted is away for a moment; its jobs are not lost. */
#define MAX_UNREACHABLE 20

DEFINE_CLEANUP(Output, output_done)

#define AT(member) offsetof(GenerateOptions, member)

/* clang-format off */
static const Option options[] = {
    {"output",    'o', OPTION_TEXT,  AT(output),    "FILE",    "where the MP4 goes; - for standard output; ID.mp4 otherwise"},
    {"image",     'i', OPTION_TEXT,  AT(image),     "FILE",    "first frame: PNG, JPEG or WebP"},
    {"seed",       0,  OPTION_WHOLE, AT(seed),      "N",       "same seed and settings, same video"},
    {"steps",      0,  OPTION_WHOLE, AT(steps),     "N",       "denoising steps"},
    {"size",       0,  OPTION_SIZE,  AT(size),      "WxH",     "pixels, multiples of 32"},
    {"frames",     0,  OPTION_WHOLE, AT(frames),    "N",       "4 n + 1 frames"},
    {"fps",        0,  OPTION_REAL,  AT(fps),       "F",       "frames a second"},
    {"guidance",   0,  OPTION_REAL,  AT(guidance),  "G",       "how closely the prompt is followed; 1: no guidance"},
    {"shift",      0,  OPTION_REAL,  AT(shift),     "S",       "flow shift of the scheduler"},
    {"negative",   0,  OPTION_TEXT,  AT(negative),  "TEXT",    "what the video shall not show"},
    {"scheduler",  0,  OPTION_TEXT,  AT(scheduler), "NAME",    "unipc or euler"},
    {"priority",   0,  OPTION_TEXT,  AT(priority),  "P",       "interactive or batch"},
    {"degrade",    0,  OPTION_TEXT,  AT(degrade),   "D",       "what may be given during a slow start: none, cached, any"},
    {"model",      0,  OPTION_TEXT,  AT(model),     "NAME",    "refused unless the server has it"},
    {"no-wait",    0,  OPTION_FLAG,  AT(no_wait),   NULL,      "print the job's id and leave"},
    {"json",       0,  OPTION_FLAG,  AT(json),      NULL,      "print the video object"},
};
/* clang-format on */

const OptionTable generate_table = {
        .command = "generate",
        .operands = "PROMPT",
        .summary = "Makes a video from a prompt. Ctrl-C cancels the job. What is not given is the\n"
                   "server's default.",
        .option = options,
        .n_options = ARRAY_LEN(options),
        .min_operands = 1,
        .max_operands = 1,
};

static int submit(Client *c, const char *prompt, const GenerateOptions *o, json_t **ret, Err *err) {
    const ClientPart all[] = {
            {.name = "prompt", .text = prompt},
            {.name = "input_reference", .file = o->image},
            {.name = "seed", .text = o->seed},
            {.name = "num_inference_steps", .text = o->steps},
            {.name = "size", .text = o->size},
            {.name = "num_frames", .text = o->frames},
            {.name = "fps", .text = o->fps},
            {.name = "guidance_scale", .text = o->guidance},
            {.name = "flow_shift", .text = o->shift},
            {.name = "negative_prompt", .text = o->negative},
            {.name = "scheduler", .text = o->scheduler},
            {.name = "priority", .text = o->priority},
            {.name = "degrade", .text = o->degrade},
            {.name = "model", .text = o->model},
    };
    ClientPart given[ARRAY_LEN(all)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i].text || all[i].file)
            given[n++] = all[i];
    return client_post(c, "/v1/videos", given, n, ret, err);
}

static int video_path(char *path, size_t size, const char *id, const char *tail) {
    int n = snprintf(path, size, "/v1/videos/%s%s", id, tail);
    assert(n > 0 && (size_t)n < size); /* ids are at most 64 long */
    return 0;
}

static void show_progress(Terminal *t, const VideoJson *v) {
    char detail[64] = "", phase[32];
    if (v->queue_position > 1)
        (void)snprintf(detail, sizeof(detail), "%jd ahead", (intmax_t)v->queue_position - 1);
    else if (v->step > 0 && v->n_steps > 0)
        (void)snprintf(
                detail, sizeof(detail), "step %jd of %jd", (intmax_t)v->step, (intmax_t)v->n_steps);
    const char *name = v->phase[0] ? v->phase : v->status;
    (void)snprintf(phase, sizeof(phase), "%.*s", (int)sizeof(phase) - 1, name);
    for (char *p = phase; *p; p++)
        *p = *p == '_' ? ' ' : *p;
    Bar bar = {
            .phase = phase,
            .percent = (int)v->percent,
            .detail = detail[0] ? detail : NULL,
            .left_sec = v->eta_sec,
    };
    terminal_progress(t, &bar);
}

static int poll_once(Client *c, const char *path, int *n_unreachable, json_t **ret, Err *err) {
    int r = client_get(c, path, ret, err);
    if (r != CTL_UNREACHABLE) {
        *n_unreachable = 0;
        return r;
    }
    if (++*n_unreachable > MAX_UNREACHABLE)
        return r;
    err_clear(err);
    return 0;
}

static int failed_sentence(const VideoJson *v, Err *err) {
    Buf message = {0};
    (void)terminal_text(&message, v->error_message[0] ? v->error_message : "no reason given", 0);
    int r = err_set(err, CTL_JOB_FAILED, "%s %s: %s%s%s%s", v->id, v->status,
            message.data ? message.data : "", v->error_code[0] ? " (" : "", v->error_code,
            v->error_code[0] ? ")" : "");
    buf_done(&message);
    return r;
}

int generate_wait(Client *c, const char *id, Signals *s, Terminal *t, json_t **ret, Err *err) {
    char path[128];
    int n_unreachable = 0;
    (void)video_path(path, sizeof(path), id, "");
    for (;;) {
        _cleanup_json_ json_t *object = NULL;
        VideoJson v;
        int r = poll_once(c, path, &n_unreachable, &object, err);
        if (r == 0 && object)
            r = video_json_read(object, &v, err);
        if (r < 0)
            return r;
        if (object && str_eq(v.status, "completed")) {
            *ret = TAKE_PTR(object);
            return 0;
        }
        if (object && !str_eq(v.status, "queued") && !str_eq(v.status, "in_progress"))
            return failed_sentence(&v, err);
        if (object)
            show_progress(t, &v);
        if (signals_wait(s, n_unreachable ? USEC_PER_SEC : POLL_USEC))
            return err_set(err, CTL_INTERRUPTED, "interrupted");
    }
}

int generate_fetch(Client *c, const char *id, const char *path, Err *err) {
    char url[128];
    (void)video_path(url, sizeof(url), id, "/content");
    _cleanup_(output_done) Output output = {.fd = -1};
    int r = output_open(path, &output, err);
    if (r == 0)
        r = client_download(c, url, output.fd, err);
    return r < 0 ? r : output_publish(&output, err);
}

/* The job is told to stop over a connection of its own making: the first one may be in the middle
 * of an answer. */
static int cancel_interrupted(Client *c, const char *id, Signals *s, Err *err) {
    char path[128];
    _cleanup_json_ json_t *answer = NULL;
    (void)video_path(path, sizeof(path), id, "");
    s->came = false; /* a second Ctrl-C ends the wait for this answer too */
    err_clear(err);
    int r = client_delete(c, path, &answer, err);
    if (r < 0)
        return err_prefix(err, r, "interrupted, but %s could not be cancelled", id);
    return err_set(err, CTL_INTERRUPTED, "interrupted; %s is cancelled", id);
}

static void print_result(const json_t *object, const char *path, double sec, FILE *out) {
    VideoJson v;
    if (video_json_read(object, &v, NULL) < 0)
        return;
    Buf line = {0};
    (void)terminal_text(&line, str_eq(path, "-") ? "standard output" : path, 0);
    (void)fprintf(out, "%s: ", line.data ? line.data : "");
    buf_done(&line);
    (void)terminal_text(&line, v.size, 0);
    (void)fprintf(out, "%s, %jd frames", line.data ? line.data : "", (intmax_t)v.num_frames);
    if (v.has_seed)
        (void)fprintf(out, ", seed %jd", (intmax_t)v.seed);
    (void)fprintf(out, ", made in %.1f s\n", sec);
    buf_done(&line);
}

static int wait_and_fetch(Client *c, const char *id, const GenerateOptions *o, Signals *s,
        Terminal *t, FILE *out, Err *err) {
    uint64_t start = clock_usec();
    _cleanup_json_ json_t *object = NULL;
    _cleanup_free_ char *default_path = str_format("%s.mp4", id);
    const char *path = o->output ? o->output : default_path;
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = generate_wait(c, id, s, t, &object, err);
    terminal_clear(t);
    if (r == CTL_INTERRUPTED)
        return cancel_interrupted(c, id, s, err);
    if (r < 0)
        return r;
    r = generate_fetch(c, id, path, err);
    if (r < 0)
        return err_prefix(err, r, "%s is done, 'preheatctl get' downloads it", id);
    if (o->json)
        (void)json_dumpf(object, out, VIDEO_JSON_DUMP);
    if (o->json)
        (void)fputc('\n', out);
    else
        print_result(object, path, (double)(clock_usec() - start) / 1e6, out);
    return 0;
}

int generate_run(Client *c, const char *prompt, const GenerateOptions *o, Signals *s, Terminal *t,
        FILE *out, Err *err) {
    _cleanup_json_ json_t *object = NULL;
    VideoJson v;
    int r = o->no_wait ? 0 : output_check(o->output, err);
    if (r == 0)
        r = submit(c, prompt, o, &object, err);
    if (r == 0)
        r = video_json_read(object, &v, err);
    if (r < 0)
        return r;
    if (!o->no_wait) {
        /* With the video itself on standard output, words about it go to standard error. */
        bool piped = o->output && str_eq(o->output, "-");
        return wait_and_fetch(c, v.id, o, s, t, piped ? stderr : out, err);
    }
    if (o->json)
        (void)json_dumpf(object, out, VIDEO_JSON_DUMP);
    else
        (void)fputs(v.id, out);
    (void)fputc('\n', out);
    return 0;
}
