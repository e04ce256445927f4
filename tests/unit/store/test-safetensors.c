#include "test.h"

#include "store/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A head of `json` with its true length, in front of data_bytes of data. */
static int parse_of(
        const char *json, size_t json_bytes, uint64_t data_bytes, Safetensors *ret, Err *err) {
    uint8_t *head = malloc(8 + json_bytes);
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)((uint64_t)json_bytes >> (8 * i));
    memcpy(head + 8, json, json_bytes);
    int r = safetensors_parse(head, 8 + json_bytes, 8 + json_bytes + data_bytes, ret, err);
    free(head);
    return r;
}

static void good_headers_pass(void **state) {
    static const struct {
        const char *json;
        uint64_t data_bytes;
        size_t n;
    } cases[] = {
            {"{}", 0, 0},
            {"{}      ", 0, 0},
            {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", 24, 1},
            {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2, 1},
            {"{\"__metadata__\":{\"format\":\"pt\"},"
             "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]},"
             "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                    8, 2},
            /* Empty tensors may lie anywhere where another begins or the data ends. */
            {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
             "\"b\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},"
             "\"c\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}",
                    4, 3},
            {"{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Err err = {0};
        Safetensors s;
        int r = parse_of(cases[i].json, strlen(cases[i].json), cases[i].data_bytes, &s, &err);
        if (r < 0)
            fail_msg("%s: %s", cases[i].json, err_text(&err));
        assert_int_equal(s.n_entries, cases[i].n);
        safetensors_done(&s);
    }
}

static void entries_are_in_file_order(void **state) {
    Safetensors s;
    const char *json = "{\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[4,12]},"
                       "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
    assert_int_equal(parse_of(json, strlen(json), 12, &s, NULL), 0);
    assert_string_equal(s.entry[0].name, "a");
    assert_int_equal(s.entry[0].offset, 8 + strlen(json));
    assert_int_equal(s.entry[0].dtype, DTYPE_BF16);
    assert_string_equal(s.entry[1].name, "b");
    assert_int_equal(s.entry[1].rank, 2);
    assert_int_equal(s.entry[1].dim[1], 2);
    assert_int_equal(s.entry[1].bytes, 8);
    safetensors_done(&s);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void bad_headers_are_refused(void **state) {
    static const struct {
        const char *json;
        uint64_t data_bytes;
        const char *says; /* part of the sentence */
    } cases[] = {
            {"", 0, "not one JSON object"},
            {"[]", 0, "not one JSON object"},
            {" {}", 0, "not one JSON object"},
            {"{}\n", 0, "not one JSON object"},
            {"{} x", 0, "not one JSON object"},
            {"{}{}", 0, "not valid JSON"},
            {"{", 0, "not one JSON object"},
            {"{\"a\":1}", 0, "not described by an object"},
            {"{\"\xff\":{}}", 0, "not valid JSON"},
            {"{\"a\\u0000\":{}}", 0, "not valid JSON"},
            {"{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[0,1]") "}", 1, "duplicate"},
            {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                    "duplicate"},
            {"{\"__metadata__\":[]}", 0, "'__metadata__' is not an object"},
            {"{\"__metadata__\":{\"a\":1}}", 0, "'__metadata__.a' is not a string"},
            {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate"},
            {"{" T("a", "F33", "[1]", "[0,1]") "}", 1, "unknown dtype 'F33'"},
            {"{" T("a", "f32", "[1]", "[0,4]") "}", 4, "unknown dtype"},
            {"{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no text 'dtype'"},
            {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "no text 'dtype'"},
            {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no array 'shape'"},
            {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "no pair 'data_offsets'"},
            {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1,
                    "a field besides"},
            {"{" T("a", "U8", "[-1]", "[0,1]") "}", 1, "no count"},
            {"{" T("a", "U8", "[1.0]", "[0,1]") "}", 1, "no count"},
            {"{" T("a", "U8", "[1e0]", "[0,1]") "}", 1, "no count"},
            {"{" T("a", "U8", "[\"1\"]", "[0,1]") "}", 1, "no count"},
            {"{" T("a", "U8", "[true]", "[0,1]") "}", 1, "no count"},
            {"{" T("a", "U8", "[9223372036854775808]", "[0,1]") "}", 1, "not valid JSON"},
            {"{" T("a", "U8", "[1,1,1,1,1,1]", "[0,1]") "}", 1, "6 axes"},
            {"{" T("a", "U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "more elements"},
            {"{" T("a", "U8", "[0,4294967296,4294967296,4294967296,2]", "[0,1]") "}", 1, ""},
            {"{" T("a", "F64", "[2305843009213693952]", "[0,0]") "}", 0, "but has 0 bytes"},
            {"{" T("a", "U8", "[1]", "[0]") "}", 1, "no pair"},
            {"{" T("a", "U8", "[1]", "[0,1,2]") "}", 1, "no pair"},
            {"{" T("a", "U8", "[1]", "[-1,0]") "}", 1, "no counts"},
            {"{" T("a", "U8", "[1]", "[0.0,1.0]") "}", 1, "no counts"},
            {"{" T("a", "U8", "[1]", "[1,0]") "}", 1, "is at 1 to 0"},
            {"{" T("a", "U8", "[2]", "[0,2]") "}", 1, "is at 0 to 2 of 1 data bytes"},
            {"{" T("a", "F32", "[2]", "[0,4]") "}", 4, "is [2] of F32, but has 4 bytes"},
            {"{" T("a", "F4", "[3]", "[0,1]") "}", 1, "is [3] of F4"},
            {"{" T("a", "U8", "[1]", "[1,2]") "}", 2, "after a gap"},
            {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3,
                    "overlapping"},
            {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[3,5]") "}", 5, "gap"},
            {"{" T("a", "U8", "[2]", "[0,2]") "}", 3, "tensors end at data byte 2, the file has 3"},
            {"{}", 1, "tensors end at data byte 0, the file has 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Err err = {0};
        Safetensors s;
        int r = parse_of(cases[i].json, strlen(cases[i].json), cases[i].data_bytes, &s, &err);
        if (r != -EBADMSG || !strstr(err_text(&err), cases[i].says))
            fail_msg("%s: %d, %s", cases[i].json, r, err_text(&err));
    }
}

static void lengths_are_checked(void **state) {
    static const struct {
        uint64_t n, file_bytes;
        int code;
    } cases[] = {
            {2, 10, 0},
            {0, 8, 0}, /* too short a text, found later */
            {2, 9, -EBADMSG},
            {0, 7, -EBADMSG},
            {100000000, 100000008, 0},
            {100000001, 200000000, -EBADMSG},
            {UINT64_MAX, UINT64_MAX, -EBADMSG},
            {UINT64_MAX - 7, 100, -EBADMSG},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t prefix[8];
        uint64_t head;
        memcpy(prefix, &cases[i].n, 8);
        assert_int_equal(
                safetensors_head_bytes(prefix, cases[i].file_bytes, &head, NULL), cases[i].code);
    }
    Safetensors s;
    assert_int_equal(safetensors_parse("\2\0\0\0\0\0\0", 7, 7, &s, NULL), -EBADMSG);
    assert_int_equal(safetensors_parse("\2\0\0\0\0\0\0\0{", 9, 10, &s, NULL), -EBADMSG);
    assert_int_equal(safetensors_parse("\2\0\0\0\0\0\0\0{} ", 11, 11, &s, NULL), -EBADMSG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(good_headers_pass),
            cmocka_unit_test(entries_are_in_file_order),
            cmocka_unit_test(bad_headers_are_refused),
            cmocka_unit_test(lengths_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
