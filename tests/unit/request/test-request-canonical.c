#include "test.h"

#include "base/cleanup.h"
#include "request/example.h"
#include "request/request-canonical.h"
#include "request/request-json.h"

#include <errno.h>
#include <string.h>

static void parse(const char *text, Request *r) {
    RequestFault fault;
    Err err = {0};
    assert_int_equal(request_begin(r, &example_defaults, &err), 0);
    assert_int_equal(request_parse_json(r, text, strlen(text), &example_limits, &fault, &err), 0);
}

static void comes_back_the_same(void **state) {
    static const char text[] =
            "{\"prompt\":\"caf\xc3\xa9 \\\"x\\\"\",\"negative_prompt\":\"n\",\"model\":\"m\","
            "\"fps\":23.976,\"seed\":9223372036854775806,\"priority\":\"batch\","
            "\"scheduler\":\"euler\",\"input_reference\":\"" PNG_TEXT "\"}";
    Request a, b;
    Digest image, wanted = digest_of(PNG_BYTES, 8);
    Err err = {0};
    parse(text, &a);
    _cleanup_free_ char *json = request_to_json(&a);
    assert_non_null(json);
    assert_int_equal(request_from_json(json, &b, &image, &err), 0);
    assert_string_equal(b.prompt, a.prompt);
    assert_string_equal(b.negative_prompt, "n");
    assert_string_equal(b.model, "m");
    assert_true(b.fps == a.fps && b.guidance_scale == a.guidance_scale && b.has_seed);
    assert_true(b.seed == a.seed);
    assert_int_equal(b.priority, PRIORITY_BATCH);
    assert_int_equal(b.scheduler, SCHEDULER_EULER);
    assert_null(b.image);
    assert_int_equal(b.image_bytes, 8);
    assert_true(digest_eq(&image, &wanted));
    request_done(&a);
    request_done(&b);
}

static void stands_as_documented(void **state) {
    Request r;
    parse("{\"prompt\":\"p\",\"seed\":1}", &r);
    _cleanup_free_ char *json = request_to_json(&r);
    assert_string_equal(json,
            "{\"flow_shift\":5.0,\"fps\":24.0,\"guidance_scale\":5.0,\"height\":128,"
            "\"image_bytes\":0,\"image_digest\":\"\",\"model\":null,\"n\":1,"
            "\"negative_prompt\":\"blurry\",\"num_frames\":17,\"num_inference_steps\":12,"
            "\"priority\":\"interactive\",\"prompt\":\"p\",\"scheduler\":\"unipc\",\"seed\":1,"
            "\"width\":128}");
    request_done(&r);
}

static Digest identity(const char *text) {
    Request r;
    Digest d;
    parse(text, &r);
    assert_int_equal(request_identity(&r, &d), 0);
    request_done(&r);
    return d;
}

static void identity_is_what_shapes_the_frames(void **state) {
    static const char base[] = "{\"prompt\":\"p\",\"seed\":1}";
    static const char *const same[] = {"{\"seed\":1,\"prompt\":\"p\",\"priority\":\"batch\"}",
            "{\"prompt\":\"p\",\"seed\":1,\"n\":2}", "{\"prompt\":\"p\",\"seed\":1,\"width\":128}"};
    static const char *const other[] = {"{\"prompt\":\"P\",\"seed\":1}",
            "{\"prompt\":\"p\",\"seed\":2}", "{\"prompt\":\"p\",\"seed\":1,\"fps\":23}",
            "{\"prompt\":\"p\",\"seed\":1,\"input_reference\":\"" PNG_TEXT "\"}"};
    Digest d = identity(base);
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        Digest e = identity(same[i]);
        assert_true(digest_eq(&d, &e));
    }
    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        Digest e = identity(other[i]);
        assert_false(digest_eq(&d, &e));
    }
}

static void damage_is_told(void **state) {
    Request r;
    parse("{\"prompt\":\"p\",\"seed\":1}", &r);
    _cleanup_free_ char *json = request_to_json(&r);
    request_done(&r);
    static const struct {
        const char *from, *to;
    } cases[] = {
            {"\"fps\":24.0", "\"fps\":0"},
            {"\"width\":128", "\"width\":0"},
            {"\"seed\":1", "\"seed\":-1"},
            {"\"prompt\":\"p\"", "\"prompt\":null"},
            {"\"scheduler\":\"unipc\"", "\"scheduler\":\"x\""},
            {"\"priority\":\"interactive\"", "\"priority\":\"x\""},
            {"\"image_bytes\":0", "\"image_bytes\":5"},
            {"\"num_frames\":17", "\"num_frames\":\"17\""},
            {"\"n\":1,", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[600];
        const char *at = strstr(json, cases[i].from);
        assert_non_null(at);
        (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - json), json, cases[i].to,
                at + strlen(cases[i].from));
        Digest image;
        Err err = {0};
        assert_int_equal(request_from_json(text, &r, &image, &err), -EBADMSG);
    }
    for (size_t n = 0; n < strlen(json); n++) {
        char text[600];
        (void)snprintf(text, sizeof(text), "%.*s", (int)n, json);
        Digest image;
        assert_int_equal(request_from_json(text, &r, &image, NULL), -EBADMSG);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(comes_back_the_same),
            cmocka_unit_test(stands_as_documented),
            cmocka_unit_test(identity_is_what_shapes_the_frames),
            cmocka_unit_test(damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
