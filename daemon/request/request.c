#include "request/request.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const scheduler_names[N_SCHEDULERS] = {
        [SCHEDULER_UNIPC] = "unipc", [SCHEDULER_EULER] = "euler"};
static const char *const priority_names[N_PRIORITIES] = {
        [PRIORITY_INTERACTIVE] = "interactive", [PRIORITY_BATCH] = "batch"};

static const char *const degrade_names[N_DEGRADES] = {[DEGRADE_USUAL] = "",
        [DEGRADE_NONE] = "none",
        [DEGRADE_CACHED] = "cached",
        [DEGRADE_ANY] = "any"};

static int name_index(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (str_eq(names[i], name))
            return i;
    return -EINVAL;
}

const char *scheduler_name(Scheduler s) {
    assert((unsigned)s < N_SCHEDULERS);
    return scheduler_names[s];
}

int scheduler_parse(const char *name, Scheduler *ret) {
    int i = name_index(scheduler_names, N_SCHEDULERS, name);
    if (i < 0)
        return i;
    *ret = (Scheduler)i;
    return 0;
}

const char *priority_name(Priority p) {
    assert((unsigned)p < N_PRIORITIES);
    return priority_names[p];
}

int priority_parse(const char *name, Priority *ret) {
    int i = name_index(priority_names, N_PRIORITIES, name);
    if (i < 0)
        return i;
    *ret = (Priority)i;
    return 0;
}

int request_degrade_parse(const char *name, RequestDegrade *ret) {
    int i = *name ? name_index(degrade_names, N_DEGRADES, name) : -EINVAL;
    if (i < 0)
        return i;
    *ret = (RequestDegrade)i;
    return 0;
}

void request_init(Request *r, const RequestDefaults *d) {
    *r = (Request){
            .width = d->width,
            .height = d->height,
            .num_frames = d->num_frames,
            .fps = d->fps,
            .steps = d->steps,
            .guidance_scale = d->guidance_scale,
            .flow_shift = d->flow_shift,
            .scheduler = d->scheduler,
            .n = 1,
            .priority = PRIORITY_INTERACTIVE,
    };
}

int request_begin(Request *r, const RequestDefaults *d, Err *err) {
    request_init(r, d);
    r->negative_prompt = strdup(d->negative_prompt ? d->negative_prompt : "");
    return r->negative_prompt ? 0 : err_set(err, -ENOMEM, "no memory for the request");
}

void request_done(Request *r) {
    free(r->model);
    free(r->prompt);
    free(r->negative_prompt);
    free(r->image);
    *r = (Request){0};
}

static bool copy_text(char **to, const char *from) {
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

int request_copy(Request *to, const Request *from) {
    *to = *from;
    to->image = NULL;
    bool ok = copy_text(&to->model, from->model);
    ok = copy_text(&to->prompt, from->prompt) && ok;
    ok = copy_text(&to->negative_prompt, from->negative_prompt) && ok;
    if (from->image) {
        to->image = malloc(from->image_bytes ? from->image_bytes : 1);
        if (to->image)
            memcpy(to->image, from->image, from->image_bytes);
        ok = to->image && ok;
    }
    if (ok)
        return 0;
    request_done(to);
    return -ENOMEM;
}

static int64_t utf8_chars(const char *text) {
    int64_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

int request_fault(RequestFault *fault, const char *param, const char *code) {
    /* A longer name is a client's unknown one, and recognised by its beginning. */
    (void)snprintf(fault->param, sizeof(fault->param), "%s", param);
    fault->code = code;
    return -EINVAL;
}

static int refuse(RequestFault *fault, const char *param) {
    return request_fault(fault, param, "invalid_value");
}

static int check_text(
        const char *text, const char *param, int64_t max_chars, RequestFault *fault, Err *err) {
    if (!str_is_utf8(text, strlen(text)))
        return err_set(err, refuse(fault, param), "'%s' is not valid UTF-8", param);
    int64_t n = utf8_chars(text);
    if (n > max_chars)
        return err_set(err, refuse(fault, param), "'%s' has %jd characters, the limit is %jd",
                param, (intmax_t)n, (intmax_t)max_chars);
    return 0;
}

static int check_texts(
        const Request *r, const RequestLimits *limits, RequestFault *fault, Err *err) {
    if (!r->prompt || !*r->prompt) {
        const char *code = r->prompt ? "invalid_value" : "missing_required_parameter";
        return err_set(err, request_fault(fault, "prompt", code),
                "'prompt' is %s, it must say what the video shows",
                r->prompt ? "empty" : "missing");
    }
    int k = check_text(r->prompt, "prompt", limits->max_prompt_chars, fault, err);
    if (k == 0 && r->negative_prompt)
        k = check_text(r->negative_prompt, "negative_prompt", limits->max_prompt_chars, fault, err);
    return k;
}

static int check_int(
        int64_t v, const char *param, int64_t min, int64_t max, RequestFault *fault, Err *err) {
    if (v >= min && v <= max)
        return 0;
    return err_set(err, refuse(fault, param), "'%s' is %jd, it must be from %jd to %jd", param,
            (intmax_t)v, (intmax_t)min, (intmax_t)max);
}

/* Written so that a NaN is refused. */
static int check_real(
        double v, const char *param, double min, double max, RequestFault *fault, Err *err) {
    if (v >= min && v <= max)
        return 0;
    return err_set(
            err, refuse(fault, param), "'%s' is %g, it must be from %g to %g", param, v, min, max);
}

static int check_edge(int64_t v, const char *param, int64_t max, int64_t multiple,
        RequestFault *fault, Err *err) {
    int k = check_int(v, param, multiple, max, fault, err);
    if (k < 0)
        return k;
    if (v % multiple == 0)
        return 0;
    int64_t below = v / multiple * multiple;
    if (below + multiple > max)
        return err_set(err, refuse(fault, param),
                "'%s' is %jd, it must be a multiple of %jd: %jd is the nearest", param, (intmax_t)v,
                (intmax_t)multiple, (intmax_t)below);
    return err_set(err, refuse(fault, param),
            "'%s' is %jd, it must be a multiple of %jd: %jd or %jd are the nearest", param,
            (intmax_t)v, (intmax_t)multiple, (intmax_t)below, (intmax_t)(below + multiple));
}

static int check_size(
        const Request *r, const RequestLimits *limits, RequestFault *fault, Err *err) {
    int k = check_edge(r->width, "width", limits->max_width, limits->size_multiple, fault, err);
    if (k == 0)
        k = check_edge(r->height, "height", limits->max_height, limits->size_multiple, fault, err);
    if (k < 0)
        return k;
    if (r->width > limits->max_pixels / r->height)
        return err_set(err, refuse(fault, "size"),
                "'size' is %jdx%jd, that is more than the limit of %jd pixels", (intmax_t)r->width,
                (intmax_t)r->height, (intmax_t)limits->max_pixels);
    return 0;
}

static int check_frames(
        const Request *r, const RequestLimits *limits, RequestFault *fault, Err *err) {
    int k = check_int(r->num_frames, "num_frames", 1, limits->max_frames, fault, err);
    if (k < 0 || r->num_frames % 4 == 1)
        return k;
    int64_t below = (r->num_frames - 1) / 4 * 4 + 1;
    if (below + 4 > limits->max_frames)
        return err_set(err, refuse(fault, "num_frames"),
                "'num_frames' is %jd, it must be 4 n + 1: %jd is the nearest",
                (intmax_t)r->num_frames, (intmax_t)below);
    return err_set(err, refuse(fault, "num_frames"),
            "'num_frames' is %jd, it must be 4 n + 1: %jd or %jd are the nearest",
            (intmax_t)r->num_frames, (intmax_t)below, (intmax_t)(below + 4));
}

static int check_image(
        const Request *r, const RequestLimits *limits, RequestFault *fault, Err *err) {
    if (!r->image || r->image_bytes <= (uint64_t)limits->max_image_bytes)
        return 0;
    (void)request_fault(fault, "input_reference", "image_too_large");
    return err_set(err, -EFBIG, "'input_reference' has %zu bytes, the limit is %jd", r->image_bytes,
            (intmax_t)limits->max_image_bytes);
}

int request_validate(const Request *r, const RequestLimits *limits, RequestFault *fault, Err *err) {
    /* The shifts that a sampler takes (model/sampler.c); those in use are 3 to 12. */
    static const double min_shift = 0.01, max_shift = 100, min_fps = 1;
    int k = check_texts(r, limits, fault, err);
    if (k == 0)
        k = check_size(r, limits, fault, err);
    if (k == 0)
        k = check_real(r->fps, "fps", min_fps, limits->max_fps, fault, err);
    if (k == 0)
        k = check_frames(r, limits, fault, err);
    if (k == 0)
        k = check_int(r->steps, "num_inference_steps", 1, limits->max_steps, fault, err);
    if (k == 0)
        k = check_real(
                r->guidance_scale, "guidance_scale", 0, limits->max_guidance_scale, fault, err);
    if (k == 0)
        k = check_real(r->flow_shift, "flow_shift", min_shift, max_shift, fault, err);
    if (k == 0)
        k = check_int(r->n, "n", 1, limits->max_n, fault, err);
    if (k == 0 && r->has_seed && r->seed > (uint64_t)INT64_MAX - (uint64_t)r->n + 1)
        k = err_set(err, refuse(fault, "seed"),
                "'seed' is %ju, it must be from 0 to %jd, less n - 1", (uintmax_t)r->seed,
                (intmax_t)INT64_MAX);
    if (k == 0)
        k = check_image(r, limits, fault, err);
    return k;
}
