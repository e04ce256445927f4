#include "request/request-canonical.h"

#include "base/json.h"

#include <string.h>

/* A picture can be no larger than this in any configuration; rows with more are damaged. */
#define MAX_IMAGE_BYTES ((int64_t)1 << 32)

/* Consumes fields. */
static char *dump(json_t *fields) {
    if (!fields)
        return NULL;
    char *text = json_dumps(fields, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    json_decref(fields);
    return text;
}

/* What shapes the frames. */
static json_t *pack(const Request *r) {
    char hex[DIGEST_HEX_SIZE] = "";
    if (r->image) {
        Digest d = digest_of(r->image, r->image_bytes);
        (void)digest_hex(&d, hex);
    }
    return json_pack("{s:s?, s:s, s:s, s:I, s:I, s:I, s:f, s:I, s:f, s:f, s:s, s:I, s:I, s:s}",
            "model", r->model, "prompt", r->prompt, "negative_prompt",
            r->negative_prompt ? r->negative_prompt : "", "width", (json_int_t)r->width, "height",
            (json_int_t)r->height, "num_frames", (json_int_t)r->num_frames, "fps", r->fps,
            "num_inference_steps", (json_int_t)r->steps, "guidance_scale", r->guidance_scale,
            "flow_shift", r->flow_shift, "scheduler", scheduler_name(r->scheduler), "seed",
            (json_int_t)r->seed, "image_bytes", (json_int_t)(r->image ? r->image_bytes : 0),
            "image_digest", hex);
}

char *request_to_json(const Request *r) {
    json_t *j = pack(r);
    if (!j)
        return NULL;
    if (json_object_set_new(j, "n", json_integer(r->n)) < 0 ||
            json_object_set_new(j, "priority", json_string(priority_name(r->priority))) < 0 ||
            (r->client[0] && json_object_set_new(j, "client", json_string(r->client)) < 0) ||
            (r->degraded[0] && json_object_set_new(j, "degraded", json_string(r->degraded)) < 0)) {
        json_decref(j);
        return NULL;
    }
    return dump(j);
}

int request_identity(const Request *r, Digest *ret) {
    _cleanup_free_ char *text = dump(pack(r));
    if (!text)
        return -ENOMEM;
    *ret = digest_of(text, strlen(text));
    return 0;
}

/* What read_*() work on; a failure is kept and later reads do nothing. */
typedef struct Reader {
    const json_t *object;
    Err *err;
    int r;
} Reader;

static const char *read_text(Reader *in, const char *key, JsonNeed need) {
    const char *text = NULL;
    if (in->r == 0)
        in->r = json_get_string(in->object, "", key, need, &text, in->err);
    return text;
}

static int64_t read_int(Reader *in, const char *key, int64_t min, int64_t max) {
    int64_t v = 0;
    if (in->r == 0)
        in->r = json_get_int(in->object, "", key, JSON_REQUIRED, min, max, &v, in->err);
    return v;
}

static double read_real(Reader *in, const char *key) {
    double v = 0;
    if (in->r == 0)
        in->r = json_get_real(in->object, "", key, JSON_REQUIRED, &v, in->err);
    return v;
}

static void read_numbers(Reader *in, Request *r) {
    /* Sizes only as far as arithmetic on them must be safe; limits are the configuration's. */
    static const int64_t max = (int64_t)1 << 20;
    r->width = read_int(in, "width", 1, max);
    r->height = read_int(in, "height", 1, max);
    r->num_frames = read_int(in, "num_frames", 1, max);
    r->steps = read_int(in, "num_inference_steps", 1, max);
    r->n = read_int(in, "n", 1, max);
    r->seed = (uint64_t)read_int(in, "seed", 0, INT64_MAX);
    r->has_seed = true;
    r->fps = read_real(in, "fps");
    r->guidance_scale = read_real(in, "guidance_scale");
    r->flow_shift = read_real(in, "flow_shift");
    r->image_bytes = (size_t)read_int(in, "image_bytes", 0, MAX_IMAGE_BYTES);
    if (in->r == 0 && !(r->fps > 0))
        in->r = err_set(in->err, -EINVAL, "'fps' is %g, it must be above 0", r->fps);
}

static void read_names(Reader *in, Request *r, Digest *image) {
    const char *scheduler = read_text(in, "scheduler", JSON_REQUIRED);
    const char *priority = read_text(in, "priority", JSON_REQUIRED);
    const char *digest = read_text(in, "image_digest", JSON_REQUIRED);
    if (in->r < 0)
        return;
    if (scheduler_parse(scheduler, &r->scheduler) < 0 ||
            priority_parse(priority, &r->priority) < 0 ||
            (r->image_bytes && digest_parse(digest, image) < 0))
        in->r = err_set(in->err, -EINVAL, "scheduler, priority or image digest is unknown");
}

static void read_texts(Reader *in, Request *r) {
    const char *model = read_text(in, "model", JSON_OPTIONAL);
    const char *prompt = read_text(in, "prompt", JSON_REQUIRED);
    const char *negative = read_text(in, "negative_prompt", JSON_REQUIRED);
    const char *client = read_text(in, "client", JSON_OPTIONAL);
    const char *degraded = read_text(in, "degraded", JSON_OPTIONAL);
    if (in->r < 0)
        return;
    (void)snprintf(r->client, sizeof(r->client), "%s", client ? client : "");
    (void)snprintf(r->degraded, sizeof(r->degraded), "%s", degraded ? degraded : "");
    r->model = model ? strdup(model) : NULL;
    r->prompt = strdup(prompt);
    r->negative_prompt = strdup(negative);
    if ((model && !r->model) || !r->prompt || !r->negative_prompt)
        in->r = err_set(in->err, -ENOMEM, "no memory for a stored request");
}

int request_from_json(const char *text, Request *ret, Digest *ret_image, Err *err) {
    _cleanup_json_ json_t *object = NULL;
    Digest image = {{0}};
    Request r = {0};
    int k = json_parse(text, strlen(text), &object, err);
    if (k == 0 && !json_is_object(object))
        k = err_set(err, -EINVAL, "it is not an object");
    if (k == 0) {
        Reader in = {.object = object, .err = err};
        read_numbers(&in, &r);
        read_names(&in, &r, &image);
        read_texts(&in, &r);
        k = in.r;
    }
    if (k < 0) {
        request_done(&r);
        return err_prefix(err, k == -ENOMEM ? k : -EBADMSG, "stored request");
    }
    *ret = r;
    *ret_image = image;
    return 0;
}
