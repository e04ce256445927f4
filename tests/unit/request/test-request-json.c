#include "test.h"

#include "base/cleanup.h"
#include "request/example.h"
#include "request/request-json.h"

#include <errno.h>
#include <string.h>

static int parse(const char *text, Request *r, RequestFault *fault, Err *err) {
    assert_int_equal(request_begin(r, &example_defaults, err), 0);
    return request_parse_json(r, text, strlen(text), &example_limits, fault, err);
}

static void prompt_alone_takes_the_defaults(void **state) {
    Request r;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(parse("{\"prompt\":\"a cat\"}", &r, &fault, &err), 0);
    assert_string_equal(r.prompt, "a cat");
    assert_string_equal(r.negative_prompt, "blurry");
    assert_null(r.model);
    assert_int_equal(r.width, 128);
    assert_int_equal(r.num_frames, 17);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.priority, PRIORITY_INTERACTIVE);
    assert_int_equal(r.degrade, DEGRADE_USUAL);
    assert_false(r.has_seed);
    request_done(&r);
}

static void a_default_can_be_taken_away(void **state) {
    Request r;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(parse("{\"prompt\":\"a cat\",\"negative_prompt\":\"\"}", &r, &fault, &err), 0);
    assert_string_equal(r.negative_prompt, "");
    request_done(&r);
}

static void every_field_arrives(void **state) {
    static const char text[] =
            "{\"model\":\"m\",\"prompt\":\"p\",\"negative_prompt\":\"q\",\"width\":320,"
            "\"height\":192,\"num_frames\":33,\"fps\":12.5,\"num_inference_steps\":7,"
            "\"guidance_scale\":1.5,\"flow_shift\":3,\"scheduler\":\"euler\","
            "\"seed\":9223372036854775806,\"n\":2,\"priority\":\"batch\",\"degrade\":\"any\","
            "\"user\":\"u\","
            "\"quality\":\"standard\",\"input_reference\":{\"image_url\":\"" PNG_TEXT "\"}}";
    Request r;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(parse(text, &r, &fault, &err), 0);
    assert_string_equal(r.model, "m");
    assert_string_equal(r.negative_prompt, "q");
    assert_int_equal(r.width, 320);
    assert_int_equal(r.height, 192);
    assert_int_equal(r.num_frames, 33);
    assert_true(r.fps == 12.5 && r.guidance_scale == 1.5 && r.flow_shift == 3);
    assert_int_equal(r.steps, 7);
    assert_int_equal(r.scheduler, SCHEDULER_EULER);
    assert_true(r.has_seed && r.seed == INT64_MAX - 1);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.priority, PRIORITY_BATCH);
    assert_int_equal(r.degrade, DEGRADE_ANY);
    assert_int_equal(r.image_bytes, 8);
    assert_memory_equal(r.image, PNG_BYTES, 8);
    request_done(&r);
}

static void sizes_and_seconds(void **state) {
    static const struct {
        const char *members;
        int64_t width, height, frames;
    } cases[] = {
            {"\"size\":\"320x192\"", 320, 192, 17},
            {"\"size\":\"1280x720\"", 1280, 704, 17}, /* the API's own sizes */
            {"\"size\":\"720x1280\"", 704, 1280, 17},
            {"\"seconds\":\"4\"", 128, 128, 97},
            {"\"seconds\":\"5\"", 128, 128, 121},
            {"\"seconds\":4", 128, 128, 97},
            {"\"seconds\":\"0.01\"", 128, 128, 1},
            {"\"seconds\":\"1\",\"fps\":10", 128, 128, 9},
            {"\"seconds\":\"1\",\"fps\":12", 128, 128, 13},
            {"\"num_frames\":1", 128, 128, 1},
            {"\"seconds\":null,\"size\":null,\"num_frames\":null,\"seed\":null", 128, 128, 17},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[200];
        (void)snprintf(text, sizeof(text), "{\"prompt\":\"p\",%s}", cases[i].members);
        Request r;
        RequestFault fault;
        Err err = {0};
        assert_int_equal(parse(text, &r, &fault, &err), 0);
        assert_int_equal(r.width, cases[i].width);
        assert_int_equal(r.height, cases[i].height);
        assert_int_equal(r.num_frames, cases[i].frames);
        request_done(&r);
    }
}

#define P "{\"prompt\":\"p\","

static void refusals_name_field_and_limit(void **state) {
    static const struct {
        const char *text, *param, *code, *part;
    } cases[] = {
            {"", "", "invalid_json", "not valid JSON"},
            {"{", "", "invalid_json", "not valid JSON"},
            {"[]", "", "invalid_json", "not an object"},
            {"{\"prompt\":\"a\\u0000b\"}", "", "invalid_json", "not valid JSON"},
            {"{\"prompt\":\"a\",\"prompt\":\"b\"}", "", "invalid_json", "not valid JSON"},
            {"{\"prompt\":\"\xff\"}", "", "invalid_json", "not valid JSON"},
            {"{}", "prompt", "missing_required_parameter", "missing"},
            {"{\"prompt\":\"\"}", "prompt", "invalid_value", "empty"},
            {"{\"prompt\":3}", "prompt", "invalid_type", "must be a string"},
            {"{\"prompt\":\"12345678901234567890123456789012345678901234567890"
             "12345678901234567890123456789012345678901234567890\xc3\xa9\"}",
                    "prompt", "invalid_value", "101 characters, the limit is 100"},
            {P "\"num_inference_step\":3}", "num_inference_step", "unknown_parameter",
                    "no field 'num_inference_step'"},
            {P "\"negative_prompt\":{}}", "negative_prompt", "invalid_type", "an object"},
            {P "\"width\":130}", "width", "invalid_value", "multiple of 32: 128 or 160"},
            {P "\"width\":1312}", "width", "invalid_value", "from 32 to 1280"},
            {P "\"width\":0}", "width", "invalid_value", "from 32 to 1280"},
            {P "\"height\":-32}", "height", "invalid_value", "from 32 to 1280"},
            {P "\"height\":128.0}", "height", "invalid_type", "must be an integer"},
            {P "\"width\":1280,\"height\":1280}", "size", "invalid_value", "limit of 901120"},
            {P "\"size\":\"100x100\"}", "size", "invalid_value", "multiple of 32: 96 or 128"},
            {P "\"size\":\"128\"}", "size", "invalid_value", "WIDTHxHEIGHT"},
            {P "\"size\":\"128x128x2\"}", "size", "invalid_value", "WIDTHxHEIGHT"},
            {P "\"size\":\"x\"}", "size", "invalid_value", "WIDTHxHEIGHT"},
            {P "\"size\":128}", "size", "invalid_type", "must be a string"},
            {P "\"size\":\"128x128\",\"width\":128}", "size", "invalid_value", "both given"},
            {P "\"num_frames\":80}", "num_frames", "invalid_value", "4 n + 1: 77 or 81"},
            {P "\"num_frames\":0}", "num_frames", "invalid_value", "from 1 to 121"},
            {P "\"num_frames\":125}", "num_frames", "invalid_value", "from 1 to 121"},
            {P "\"num_frames\":9223372036854775807}", "num_frames", "invalid_value", "to 121"},
            {P "\"num_frames\":9223372036854775808}", "", "invalid_json", "not valid JSON"},
            {P "\"seconds\":\"60\"}", "seconds", "invalid_value", "at most 5.04 (121 frames"},
            {P "\"seconds\":\"0\"}", "seconds", "invalid_value", "above 0"},
            {P "\"seconds\":\"-4\"}", "seconds", "invalid_value", "above 0"},
            {P "\"seconds\":\"four\"}", "seconds", "invalid_value", "must be a number"},
            {P "\"seconds\":[]}", "seconds", "invalid_type", "number as a string"},
            {P "\"seconds\":\"4\",\"num_frames\":17}", "seconds", "invalid_value", "both given"},
            {P "\"fps\":0}", "fps", "invalid_value", "from 1 to 60"},
            {P "\"fps\":0,\"seconds\":\"4\"}", "fps", "invalid_value", "from 1 to 60"},
            {P "\"fps\":1e300,\"seconds\":\"1\"}", "seconds", "invalid_value", "at most"},
            {P "\"fps\":\"24\"}", "fps", "invalid_type", "must be a number"},
            {P "\"num_inference_steps\":0}", "num_inference_steps", "invalid_value", "1 to 50"},
            {P "\"num_inference_steps\":51}", "num_inference_steps", "invalid_value", "1 to 50"},
            {P "\"guidance_scale\":-1}", "guidance_scale", "invalid_value", "from 0 to 20"},
            {P "\"guidance_scale\":21}", "guidance_scale", "invalid_value", "from 0 to 20"},
            {P "\"flow_shift\":0}", "flow_shift", "invalid_value", "from 0.01"},
            {P "\"flow_shift\":101}", "flow_shift", "invalid_value", "to 100"},
            {P "\"scheduler\":\"ddim\"}", "scheduler", "invalid_value", "'unipc' or 'euler'"},
            {P "\"priority\":\"high\"}", "priority", "invalid_value", "'interactive' or 'batch'"},
            {P "\"degrade\":\"\"}", "degrade", "invalid_value", "'none', 'cached' or 'any'"},
            {P "\"priority\":1}", "priority", "invalid_type", "must be a string"},
            {P "\"seed\":-1}", "seed", "invalid_value", "from 0"},
            {P "\"seed\":\"1\"}", "seed", "invalid_type", "must be an integer"},
            {P "\"seed\":9223372036854775807,\"n\":2}", "seed", "invalid_value", "less n - 1"},
            {P "\"n\":0}", "n", "invalid_value", "from 1 to 4"},
            {P "\"n\":5}", "n", "invalid_value", "from 1 to 4"},
            {P "\"input_reference\":3}", "input_reference", "invalid_type", "a file, or an object"},
            {P "\"input_reference\":{}}", "input_reference", "invalid_value", "'image_url'"},
            {P "\"input_reference\":{\"file_id\":\"f\"}}", "input_reference", "unsupported_value",
                    "keeps no files"},
            {P "\"input_reference\":{\"image_url\":\"x\",\"b\":1}}", "input_reference",
                    "invalid_value", "an object"},
            {P "\"input_reference\":{\"image_url\":\"http://127.0.0.1/\"}}", "input_reference",
                    "invalid_value", "does not fetch"},
            {P "\"input_reference\":\"http://[::1]/\"}", "input_reference", "invalid_value",
                    "does not fetch"},
            {P "\"input_reference\":\"data:image/png;base64,QUJD\"}", "input_reference",
                    "invalid_image", "neither PNG"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Request r;
        RequestFault fault;
        Err err = {0};
        assert_int_equal(parse(cases[i].text, &r, &fault, &err), -EINVAL);
        assert_int_equal(err.code, -EINVAL);
        assert_string_equal(fault.param, cases[i].param);
        assert_string_equal(fault.code, cases[i].code);
        if (!strstr(err_text(&err), cases[i].part))
            fail_msg("case %zu says '%s', not '%s'", i, err_text(&err), cases[i].part);
        request_done(&r);
    }
}

static void large_images_are_refused(void **state) {
    char url[300];
    int n = snprintf(url, sizeof(url), P "\"input_reference\":\"data:image/png;base64,");
    memset(url + n, 'A', 88); /* 66 bytes */
    memcpy(url + n + 88, "\"}", 3);
    Request r;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(parse(url, &r, &fault, &err), -EFBIG);
    assert_string_equal(fault.param, "input_reference");
    assert_string_equal(fault.code, "image_too_large");
    request_done(&r);
}

static void deep_json_is_refused(void **state) {
    char text[6000];
    memset(text, '[', sizeof(text));
    Request r;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(request_begin(&r, &example_defaults, NULL), 0);
    assert_int_equal(
            request_parse_json(&r, text, sizeof(text), &example_limits, &fault, &err), -EINVAL);
    request_done(&r);
}

#define TEXT(n, v)                                                                                 \
    { .name = n, .data = v, .size = sizeof(v) - 1 }
#define FILE_PART(n, v)                                                                            \
    { .name = n, .data = v, .size = sizeof(v) - 1, .is_file = true }

static void forms_carry_the_same(void **state) {
    static const RequestPart parts[] = {TEXT("prompt", "a cat"), TEXT("seed", "42"),
            TEXT("fps", "12.5"), TEXT("num_inference_steps", "3"), TEXT("seconds", "1"),
            TEXT("size", "320x192"), TEXT("scheduler", "euler"),
            TEXT("input_reference[image_url]", PNG_TEXT)};
    Request r;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(request_begin(&r, &example_defaults, NULL), 0);
    assert_int_equal(
            request_parse_form(&r, parts, ARRAY_LEN(parts), &example_limits, &fault, &err), 0);
    assert_string_equal(r.prompt, "a cat");
    assert_true(r.has_seed && r.seed == 42 && r.fps == 12.5 && r.steps == 3);
    assert_int_equal(r.num_frames, 13);
    assert_int_equal(r.width, 320);
    assert_int_equal(r.scheduler, SCHEDULER_EULER);
    assert_memory_equal(r.image, PNG_BYTES, 8);
    request_done(&r);

    static const RequestPart file[] = {
            TEXT("prompt", "a cat"), FILE_PART("input_reference", PNG_BYTES)};
    assert_int_equal(request_begin(&r, &example_defaults, NULL), 0);
    assert_int_equal(request_parse_form(&r, file, 2, &example_limits, &fault, &err), 0);
    assert_int_equal(r.image_bytes, 8);
    request_done(&r);
}

static void form_refusals(void **state) {
    static const struct {
        RequestPart parts[3];
        int r;
        const char *param, *code;
    } cases[] = {
            {{TEXT("prompt", "p"), TEXT("seed", "")}, -EINVAL, "seed", "invalid_type"},
            {{TEXT("prompt", "p"), TEXT("seed", "1e3")}, -EINVAL, "seed", "invalid_type"},
            {{TEXT("prompt", "p"), TEXT("fps", "nan")}, -EINVAL, "fps", "invalid_type"},
            {{TEXT("prompt", "p"), TEXT("prompt", "p")}, -EINVAL, "prompt", "invalid_value"},
            {{TEXT("prompt", "\xff")}, -EINVAL, "prompt", "invalid_value"},
            {{TEXT("prompt", "a\0b")}, -EINVAL, "prompt", "invalid_value"},
            {{TEXT("prompt", "p"), TEXT("bogus", "1")}, -EINVAL, "bogus", "unknown_parameter"},
            {{TEXT("prompt", "p"), TEXT("input_reference[x]", "1")}, -EINVAL, "input_reference[x]",
                    "unknown_parameter"},
            {{TEXT("prompt", "p"), FILE_PART("prompt", "p")}, -EINVAL, "prompt",
                    "unknown_parameter"},
            {{TEXT("prompt", "p"), FILE_PART("input_reference", "GIF89a")}, -EINVAL,
                    "input_reference", "invalid_image"},
            {{TEXT("prompt", "p"), FILE_PART("input_reference", "")}, -EINVAL, "input_reference",
                    "invalid_image"},
            {{TEXT("prompt", "p"), FILE_PART("input_reference", PNG_BYTES),
                     FILE_PART("input_reference", PNG_BYTES)},
                    -EINVAL, "input_reference", "invalid_value"},
            {{TEXT("prompt", "p"), FILE_PART("input_reference", PNG_BYTES),
                     TEXT("input_reference[image_url]", PNG_TEXT)},
                    -EINVAL, "input_reference", "invalid_value"},
            {{TEXT("prompt", "p"), TEXT("input_reference", PNG_TEXT),
                     TEXT("input_reference[image_url]", PNG_TEXT)},
                    -EINVAL, "input_reference", "invalid_value"},
            {{TEXT("prompt", "p"),
                     FILE_PART("input_reference", PNG_BYTES
                             "123456789012345678901234567890123456789012345678901234567")},
                    -EFBIG, "input_reference", "image_too_large"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = 0;
        while (n < 3 && cases[i].parts[n].name)
            n++;
        Request r;
        RequestFault fault;
        Err err = {0};
        assert_int_equal(request_begin(&r, &example_defaults, NULL), 0);
        assert_int_equal(request_parse_form(&r, cases[i].parts, n, &example_limits, &fault, &err),
                cases[i].r);
        assert_string_equal(fault.param, cases[i].param);
        assert_string_equal(fault.code, cases[i].code);
        assert_int_equal(err.code, cases[i].r);
        request_done(&r);
    }
}

static void copies_are_independent(void **state) {
    Request a, b;
    RequestFault fault;
    Err err = {0};
    assert_int_equal(parse(P "\"input_reference\":\"" PNG_TEXT "\"}", &a, &fault, &err), 0);
    assert_int_equal(request_copy(&b, &a), 0);
    assert_ptr_not_equal(a.prompt, b.prompt);
    request_done(&a);
    assert_string_equal(b.prompt, "p");
    assert_memory_equal(b.image, PNG_BYTES, 8);
    request_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(prompt_alone_takes_the_defaults),
            cmocka_unit_test(a_default_can_be_taken_away),
            cmocka_unit_test(every_field_arrives),
            cmocka_unit_test(sizes_and_seconds),
            cmocka_unit_test(refusals_name_field_and_limit),
            cmocka_unit_test(large_images_are_refused),
            cmocka_unit_test(deep_json_is_refused),
            cmocka_unit_test(forms_carry_the_same),
            cmocka_unit_test(form_refusals),
            cmocka_unit_test(copies_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
