#include "test.h"

#include "base/json.h"

#include <errno.h>
#include <string.h>

static json_t *parse(const char *text) {
    json_t *j = NULL;
    Err err = {0};
    if (json_parse(text, strlen(text), &j, &err) < 0)
        fail_msg("%s", err_text(&err));
    return j;
}

static void damaged_text_is_refused(void **state) {
    static const char *const bad[] = {"", "{", "{}x", "{\"a\":1,\"a\":2}", "[1,]", "\"\\u0000\"",
            "\"\xff\"", "nul", "{\"a\" 1}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_t *j = NULL;
        Err err = {0};
        assert_int_equal(json_parse(bad[i], strlen(bad[i]), &j, &err), -EINVAL);
        assert_null(j);
        assert_memory_equal(err_text(&err), "not valid JSON: ", 16);
    }
    json_t *j = NULL;
    assert_int_equal(json_parse("1\0", 2, &j, NULL), -EINVAL);
}

/* Deeper nesting than jansson's 2048 levels must be an error, not a crash. */
static void deep_nesting_is_refused(void **state) {
    static char text[100000];
    memset(text, '[', sizeof(text));
    json_t *j = NULL;
    assert_int_equal(json_parse(text, sizeof(text), &j, NULL), -EINVAL);
}

static void members_of_each_type(void **state) {
    _cleanup_json_ json_t *j = parse("{\"i\":-3,\"r\":1.5,\"b\":true,\"s\":\"x\",\"n\":null}");
    int64_t i = 0;
    double r = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(json_get_int(j, "", "i", JSON_REQUIRED, -3, -3, &i, NULL), 0);
    assert_int_equal(i, -3);
    assert_int_equal(json_get_real(j, "", "r", JSON_REQUIRED, &r, NULL), 0);
    assert_true(r == 1.5);
    assert_int_equal(json_get_real(j, "", "i", JSON_REQUIRED, &r, NULL), 0);
    assert_true(r == -3);
    assert_int_equal(json_get_bool(j, "", "b", JSON_REQUIRED, &b, NULL), 0);
    assert_true(b);
    assert_int_equal(json_get_string(j, "", "s", JSON_REQUIRED, &s, NULL), 0);
    assert_string_equal(s, "x");
}

static void absent_or_null_is_left_alone(void **state) {
    _cleanup_json_ json_t *j = parse("{\"n\":null}");
    int64_t i = 7;
    assert_int_equal(json_get_int(j, "", "n", JSON_OPTIONAL, 0, 1, &i, NULL), 0);
    assert_int_equal(json_get_int(j, "", "missing", JSON_OPTIONAL, 0, 1, &i, NULL), 0);
    assert_int_equal(i, 7);
}

static void errors_name_place_found_and_wanted(void **state) {
    _cleanup_json_ json_t *j =
            parse("{\"i\":9,\"s\":\"x\",\"o\":{},\"a\":[],\"r\":0.5,\"n\":null}");
    int64_t i = 0;
    double r;
    bool b;
    const char *s;
    Err err = {0};
    assert_int_equal(json_get_int(j, "vae", "i", JSON_REQUIRED, 1, 8, &i, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'vae.i' is 9, it must be from 1 to 8");
    err_clear(&err);
    assert_int_equal(json_get_int(j, "", "r", JSON_REQUIRED, 0, 8, &i, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'r' is a number, it must be an integer");
    err_clear(&err);
    assert_int_equal(json_get_real(j, "", "s", JSON_REQUIRED, &r, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'s' is a string, it must be a number");
    err_clear(&err);
    assert_int_equal(json_get_bool(j, "", "o", JSON_OPTIONAL, &b, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'o' is an object, it must be a boolean");
    err_clear(&err);
    assert_int_equal(json_get_string(j, "x", "a", JSON_OPTIONAL, &s, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'x.a' is an array, it must be a string");
    err_clear(&err);
    assert_int_equal(json_get_string(j, "x", "n", JSON_REQUIRED, &s, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'x.n' is missing");
    assert_int_equal(i, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(damaged_text_is_refused),
            cmocka_unit_test(deep_nesting_is_refused),
            cmocka_unit_test(members_of_each_type),
            cmocka_unit_test(absent_or_null_is_left_alone),
            cmocka_unit_test(errors_name_place_found_and_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
