#include "base/json.h"

#include <errno.h>
#include <string.h>

int json_parse(const char *text, size_t n, json_t **ret, Err *err) {
    json_error_t e;
    if (memchr(text, '\0', n)) /* jansson takes a number's trailing NUL for its end */
        return err_set(err, -EINVAL, "not valid JSON: it has a NUL byte");
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    /* A parser that could not even be set up leaves no text. */
    if (!j && (json_error_code(&e) == json_error_out_of_memory || !*e.text))
        return err_set(err, -ENOMEM, "no memory for JSON of %zu bytes", n);
    if (!j)
        return err_set(
                err, -EINVAL, "not valid JSON: %s at line %d, column %d", e.text, e.line, e.column);
    *ret = j;
    return 0;
}

static const char *type_name(const json_t *j) {
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* 1 when *ret is the member, 0 when it may be and is absent. */
static int find(const json_t *object, const char *path, const char *key, JsonNeed need,
        const json_t **ret, Err *err) {
    assert(json_is_object(object));
    const json_t *j = json_object_get(object, key);
    if (!j || json_is_null(j)) {
        if (need == JSON_OPTIONAL)
            return 0;
        return err_set(err, -EINVAL, "'%s%s%s' is missing", path, *path ? "." : "", key);
    }
    *ret = j;
    return 1;
}

static int wrong_type(
        const json_t *j, const char *path, const char *key, const char *wanted, Err *err) {
    return err_set(err, -EINVAL, "'%s%s%s' is %s, it must be %s", path, *path ? "." : "", key,
            type_name(j), wanted);
}

int json_get_int(const json_t *object, const char *path, const char *key, JsonNeed need,
        int64_t min, int64_t max, int64_t *ret, Err *err) {
    const json_t *j = NULL;
    int r = find(object, path, key, need, &j, err);
    if (r <= 0)
        return r;
    if (!json_is_integer(j))
        return wrong_type(j, path, key, "an integer", err);
    int64_t v = json_integer_value(j);
    if (v < min || v > max)
        return err_set(err, -EINVAL, "'%s%s%s' is %jd, it must be from %jd to %jd", path,
                *path ? "." : "", key, (intmax_t)v, (intmax_t)min, (intmax_t)max);
    *ret = v;
    return 0;
}

int json_get_real(const json_t *object, const char *path, const char *key, JsonNeed need,
        double *ret, Err *err) {
    const json_t *j = NULL;
    int r = find(object, path, key, need, &j, err);
    if (r <= 0)
        return r;
    if (!json_is_number(j))
        return wrong_type(j, path, key, "a number", err);
    *ret = json_number_value(j);
    return 0;
}

int json_get_bool(const json_t *object, const char *path, const char *key, JsonNeed need, bool *ret,
        Err *err) {
    const json_t *j = NULL;
    int r = find(object, path, key, need, &j, err);
    if (r <= 0)
        return r;
    if (!json_is_boolean(j))
        return wrong_type(j, path, key, "a boolean", err);
    *ret = json_is_true(j);
    return 0;
}

int json_get_string(const json_t *object, const char *path, const char *key, JsonNeed need,
        const char **ret, Err *err) {
    const json_t *j = NULL;
    int r = find(object, path, key, need, &j, err);
    if (r <= 0)
        return r;
    if (!json_is_string(j))
        return wrong_type(j, path, key, "a string", err);
    *ret = json_string_value(j);
    return 0;
}
