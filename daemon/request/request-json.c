#include "request/request-json.h"

#include "base/json.h"
#include "base/str.h"
#include "request/data-url.h"

#include <math.h>

typedef enum FieldKind {
    FIELD_TEXT, /* char * at offset */
    FIELD_INT,  /* int64_t at offset */
    FIELD_REAL, /* double at offset */
    FIELD_SCHEDULER,
    FIELD_PRIORITY,
    FIELD_DEGRADE,
    FIELD_SEED,
    FIELD_SIZE,
    FIELD_SECONDS,
    FIELD_REFERENCE,
    FIELD_IGNORED, /* the API has it, there is nothing here that it could change */
} FieldKind;

typedef struct Field {
    const char *name;
    FieldKind kind;
    size_t offset; /* in Request */
} Field;

/* In the order of application: seconds needs fps. */
static const Field fields[] = {
        {"model", FIELD_TEXT, offsetof(Request, model)},
        {"prompt", FIELD_TEXT, offsetof(Request, prompt)},
        {"negative_prompt", FIELD_TEXT, offsetof(Request, negative_prompt)},
        {"width", FIELD_INT, offsetof(Request, width)},
        {"height", FIELD_INT, offsetof(Request, height)},
        {"size", FIELD_SIZE, 0},
        {"fps", FIELD_REAL, offsetof(Request, fps)},
        {"num_frames", FIELD_INT, offsetof(Request, num_frames)},
        {"seconds", FIELD_SECONDS, 0},
        {"num_inference_steps", FIELD_INT, offsetof(Request, steps)},
        {"guidance_scale", FIELD_REAL, offsetof(Request, guidance_scale)},
        {"flow_shift", FIELD_REAL, offsetof(Request, flow_shift)},
        {"scheduler", FIELD_SCHEDULER, 0},
        {"seed", FIELD_SEED, 0},
        {"n", FIELD_INT, offsetof(Request, n)},
        {"priority", FIELD_PRIORITY, 0},
        {"degrade", FIELD_DEGRADE, 0},
        {"input_reference", FIELD_REFERENCE, 0},
        {"quality", FIELD_IGNORED, 0},
        {"user", FIELD_IGNORED, 0},
};

/* What one parse works on. */
typedef struct Parse {
    Request *r;
    const json_t *object;
    const RequestLimits *limits;
    RequestFault *fault;
    Err *err;
    bool has_file; /* r->image came as a part of the form, not with the defaults */
} Parse;

static const Field *field_find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (str_eq(fields[i].name, name))
            return &fields[i];
    return NULL;
}

static bool given(const Parse *p, const char *name) {
    const json_t *j = json_object_get(p->object, name);
    return j && !json_is_null(j);
}

static int replace_text(Parse *p, char **to, const char *text) {
    char *copy = strdup(text);
    if (!copy)
        return err_set(p->err, -ENOMEM, "no memory for the request");
    free(*to);
    *to = copy;
    return 0;
}

static int apply_text(Parse *p, const Field *f) {
    const char *text = NULL;
    int k = json_get_string(p->object, "", f->name, JSON_OPTIONAL, &text, p->err);
    if (k < 0)
        return request_fault(p->fault, f->name, "invalid_type");
    return text ? replace_text(p, (char **)((char *)p->r + f->offset), text) : 0;
}

static int apply_number(Parse *p, const Field *f) {
    void *to = (char *)p->r + f->offset;
    int k = f->kind == FIELD_INT ? json_get_int(p->object, "", f->name, JSON_OPTIONAL, INT64_MIN,
                                           INT64_MAX, to, p->err)
                                 : json_get_real(p->object, "", f->name, JSON_OPTIONAL, to, p->err);
    return k < 0 ? request_fault(p->fault, f->name, "invalid_type") : 0;
}

static int apply_seed(Parse *p, const Field *f) {
    int64_t seed = -1;
    if (!given(p, f->name))
        return 0;
    if (json_get_int(p->object, "", f->name, JSON_REQUIRED, 0, INT64_MAX, &seed, p->err) < 0)
        return request_fault(p->fault, f->name,
                json_is_integer(json_object_get(p->object, f->name)) ? "invalid_value"
                                                                     : "invalid_type");
    p->r->seed = (uint64_t)seed;
    p->r->has_seed = true;
    return 0;
}

static int apply_name(Parse *p, const Field *f) {
    const char *name = NULL;
    if (json_get_string(p->object, "", f->name, JSON_OPTIONAL, &name, p->err) < 0)
        return request_fault(p->fault, f->name, "invalid_type");
    if (!name)
        return 0;
    const char *wanted = f->kind == FIELD_SCHEDULER  ? "'unipc' or 'euler'"
                         : f->kind == FIELD_PRIORITY ? "'interactive' or 'batch'"
                                                     : "'none', 'cached' or 'any'";
    int k = f->kind == FIELD_SCHEDULER  ? scheduler_parse(name, &p->r->scheduler)
            : f->kind == FIELD_PRIORITY ? priority_parse(name, &p->r->priority)
                                        : request_degrade_parse(name, &p->r->degrade);
    if (k == 0)
        return 0;
    return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"),
            "'%s' is '%.60s', it must be %s", f->name, name, wanted);
}

/* The API's sizes have edges of 720, which no multiple of 32 meets. */
static int64_t api_edge(int64_t edge, int64_t multiple) {
    return edge == 720 ? edge / multiple * multiple : edge;
}

static int parse_size(const char *text, int64_t *ret_width, int64_t *ret_height) {
    char left[20];
    const char *x = strchr(text, 'x');
    if (!x || (size_t)(x - text) >= sizeof(left))
        return -EINVAL;
    memcpy(left, text, (size_t)(x - text));
    left[x - text] = '\0';
    int k = str_to_i64(left, ret_width);
    return k < 0 ? k : str_to_i64(x + 1, ret_height);
}

static int apply_size(Parse *p, const Field *f) {
    const char *text = NULL;
    int64_t width, height;
    if (json_get_string(p->object, "", f->name, JSON_OPTIONAL, &text, p->err) < 0)
        return request_fault(p->fault, f->name, "invalid_type");
    if (!text)
        return 0;
    if (parse_size(text, &width, &height) < 0)
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"),
                "'size' is '%.60s', it must be WIDTHxHEIGHT in pixels", text);
    if (given(p, "width") || given(p, "height"))
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"),
                "'size' and 'width' or 'height' are both given, give one of them");
    if (str_eq(text, "1280x720") || str_eq(text, "720x1280")) {
        width = api_edge(width, p->limits->size_multiple);
        height = api_edge(height, p->limits->size_multiple);
    }
    p->r->width = width;
    p->r->height = height;
    return 0;
}

static int read_seconds(Parse *p, const Field *f, double *ret) {
    const json_t *j = json_object_get(p->object, f->name);
    if (json_is_number(j)) {
        *ret = json_number_value(j);
    } else if (!json_is_string(j)) {
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_type"),
                "'seconds' must be a number as a string");
    } else if (str_to_f64(json_string_value(j), ret) < 0) {
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"),
                "'seconds' is '%.60s', it must be a number", json_string_value(j));
    }
    return 0;
}

/* The nearest 4 n + 1 to seconds x fps: 5 s at 24 per second are 121 frames. */
static int apply_seconds(Parse *p, const Field *f) {
    double seconds;
    if (!given(p, f->name))
        return 0;
    int k = read_seconds(p, f, &seconds);
    if (k < 0)
        return k;
    if (given(p, "num_frames"))
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"),
                "'seconds' and 'num_frames' are both given, give one of them");
    if (!(p->r->fps > 0)) /* refused by request_validate(), which names fps */
        return 0;
    double wanted = seconds * p->r->fps, max = (double)p->limits->max_frames;
    if (!(seconds > 0) || wanted > max + 2)
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"),
                "'seconds' is %g, it must be above 0 and at most %.2f (%jd frames at %g per "
                "second)",
                seconds, max / p->r->fps, (intmax_t)p->limits->max_frames, p->r->fps);
    p->r->num_frames = (int64_t)fmax(0, round((wanted - 1) / 4)) * 4 + 1;
    if (p->r->num_frames > p->limits->max_frames)
        p->r->num_frames -= 4;
    return 0;
}

/* Takes the memory. What the bytes claim to be is settled by the media child, which decodes them;
 * this only spares it what is certainly no picture. */
static int set_image(Parse *p, void *data, size_t n) {
    free(p->r->image);
    p->r->image = data;
    p->r->image_bytes = n;
    if (request_image_kind(data, n))
        return 0;
    return err_set(p->err, request_fault(p->fault, "input_reference", "invalid_image"),
            "'input_reference' of %zu bytes is neither PNG nor JPEG nor WebP", n);
}

static int apply_data_url(Parse *p, const char *url) {
    void *data = NULL;
    size_t n = 0;
    int k = data_url_decode(url, (size_t)p->limits->max_image_bytes, &data, &n, p->err);
    if (k < 0) {
        (void)request_fault(
                p->fault, "input_reference", k == -EFBIG ? "image_too_large" : "invalid_value");
        return err_prefix(p->err, k, "'input_reference'");
    }
    return set_image(p, data, n);
}

static int apply_reference(Parse *p, const Field *f) {
    static const char wanted[] = "'input_reference' must be a file, or an object with 'image_url'";
    if (!given(p, f->name))
        return 0;
    const json_t *j = json_object_get(p->object, f->name);
    if (json_is_string(j))
        return apply_data_url(p, json_string_value(j));
    if (!json_is_object(j))
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_type"), "%s", wanted);
    if (json_object_get(j, "file_id"))
        return err_set(p->err, request_fault(p->fault, f->name, "unsupported_value"),
                "'input_reference' has a 'file_id', this server keeps no files; send the picture");
    const json_t *url = json_object_get(j, "image_url");
    if (!json_is_string(url) || json_object_size(j) != 1)
        return err_set(p->err, request_fault(p->fault, f->name, "invalid_value"), "%s", wanted);
    return apply_data_url(p, json_string_value(url));
}

static int apply(Parse *p, const Field *f) {
    switch (f->kind) {
    case FIELD_TEXT:
        return apply_text(p, f);
    case FIELD_INT:
    case FIELD_REAL:
        return apply_number(p, f);
    case FIELD_SCHEDULER:
    case FIELD_PRIORITY:
    case FIELD_DEGRADE:
        return apply_name(p, f);
    case FIELD_SEED:
        return apply_seed(p, f);
    case FIELD_SIZE:
        return apply_size(p, f);
    case FIELD_SECONDS:
        return apply_seconds(p, f);
    case FIELD_REFERENCE:
        return apply_reference(p, f);
    case FIELD_IGNORED:
        break;
    }
    return 0;
}

static int refuse_unknown(const json_t *object, RequestFault *fault, Err *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (!field_find(key))
            return err_set(err, request_fault(fault, key, "unknown_parameter"),
                    "there is no field '%.100s'", key);
    }
    return 0;
}

static int parse_object(Parse *p) {
    int k = refuse_unknown(p->object, p->fault, p->err);
    for (size_t i = 0; k == 0 && i < ARRAY_LEN(fields); i++)
        k = apply(p, &fields[i]);
    if (k == 0)
        k = request_validate(p->r, p->limits, p->fault, p->err);
    if (k < 0 && given(p, "size") &&
            (str_eq(p->fault->param, "width") || str_eq(p->fault->param, "height")))
        (void)request_fault(p->fault, "size", p->fault->code); /* what the client wrote */
    return k;
}

int request_parse_json(Request *r, const char *text, size_t n, const RequestLimits *limits,
        RequestFault *fault, Err *err) {
    _cleanup_json_ json_t *object = NULL;
    *fault = (RequestFault){0};
    int k = json_parse(text, n, &object, err);
    if (k == -ENOMEM)
        return k;
    if (k < 0)
        return err_prefix(err, request_fault(fault, "", "invalid_json"), "the body is");
    if (!json_is_object(object))
        return err_set(err, request_fault(fault, "", "invalid_json"),
                "the body is JSON, but not an object");
    Parse p = {.r = r, .object = object, .limits = limits, .fault = fault, .err = err};
    return parse_object(&p);
}

/* A form's text as the JSON value that the field takes; *ret stays NULL when out of memory. */
static int form_value(
        const Field *f, const RequestPart *part, json_t **ret, RequestFault *fault, Err *err) {
    int64_t i;
    double d;
    if (strlen(part->data) != part->size || !str_is_utf8(part->data, part->size))
        return err_set(err, request_fault(fault, f->name, "invalid_value"),
                "'%s' is not valid UTF-8 text", f->name);
    if (f->kind == FIELD_INT || f->kind == FIELD_SEED) {
        if (str_to_i64(part->data, &i) < 0)
            return err_set(err, request_fault(fault, f->name, "invalid_type"),
                    "'%s' is '%.60s', it must be an integer", f->name, part->data);
        *ret = json_integer(i);
    } else if (f->kind == FIELD_REAL) {
        if (str_to_f64(part->data, &d) < 0)
            return err_set(err, request_fault(fault, f->name, "invalid_type"),
                    "'%s' is '%.60s', it must be a number", f->name, part->data);
        *ret = json_real(d);
    } else {
        *ret = json_stringn_nocheck(part->data, part->size); /* checked above */
    }
    return 0;
}

static const Field *form_field(const char *name, const char **ret_member) {
    static const char reference[] = "input_reference[";
    *ret_member = NULL;
    if (str_eq(name, "input_reference[image_url]"))
        *ret_member = "image_url";
    else if (str_eq(name, "input_reference[file_id]"))
        *ret_member = "file_id";
    return *ret_member                   ? field_find("input_reference")
           : str_starts(name, reference) ? NULL
                                         : field_find(name);
}

static int out_of_memory(Err *err) {
    return err_set(err, -ENOMEM, "no memory for the request");
}

static int add_text_part(json_t *object, const RequestPart *part, RequestFault *fault, Err *err) {
    const char *member;
    const Field *f = form_field(part->name, &member);
    if (!f)
        return err_set(err, request_fault(fault, part->name, "unknown_parameter"),
                "there is no field '%.100s'", part->name);
    json_t *to = object;
    if (member) {
        to = json_object_get(object, f->name);
        if (!to && json_object_set_new(object, f->name, json_object()) < 0)
            return out_of_memory(err);
        to = json_object_get(object, f->name);
    }
    const char *key = member ? member : f->name;
    if (!json_is_object(to) || json_object_get(to, key))
        return err_set(err, request_fault(fault, f->name, "invalid_value"), "'%s' is given twice",
                part->name);
    json_t *value = NULL;
    int k = form_value(f, part, &value, fault, err);
    if (k < 0)
        return k;
    return json_object_set_new_nocheck(to, key, value) < 0 ? out_of_memory(err) : 0;
}

static int add_file_part(Parse *p, const RequestPart *part) {
    if (!str_eq(part->name, "input_reference"))
        return err_set(p->err, request_fault(p->fault, part->name, "unknown_parameter"),
                "there is no file '%.100s', only 'input_reference'", part->name);
    if (p->has_file)
        return err_set(p->err, request_fault(p->fault, "input_reference", "invalid_value"),
                "'input_reference' is given twice");
    if (part->size > (uint64_t)p->limits->max_image_bytes) {
        (void)request_fault(p->fault, "input_reference", "image_too_large");
        return err_set(p->err, -EFBIG, "'input_reference' has %zu bytes, the limit is %jd",
                part->size, (intmax_t)p->limits->max_image_bytes);
    }
    void *data = malloc(part->size ? part->size : 1);
    if (!data)
        return out_of_memory(p->err);
    memcpy(data, part->data, part->size);
    p->has_file = true;
    return set_image(p, data, part->size);
}

int request_parse_form(Request *r, const RequestPart *parts, size_t n_parts,
        const RequestLimits *limits, RequestFault *fault, Err *err) {
    *fault = (RequestFault){0};
    _cleanup_json_ json_t *object = json_object();
    if (!object)
        return out_of_memory(err);
    Parse p = {.r = r, .object = object, .limits = limits, .fault = fault, .err = err};
    int k = 0;
    for (size_t i = 0; k == 0 && i < n_parts; i++)
        k = parts[i].is_file ? add_file_part(&p, &parts[i])
                             : add_text_part(object, &parts[i], fault, err);
    if (k == 0 && p.has_file && given(&p, "input_reference"))
        k = err_set(err, request_fault(fault, "input_reference", "invalid_value"),
                "'input_reference' is given twice");
    return k == 0 ? parse_object(&p) : k;
}
