#include "test.h"

#include "base/cleanup.h"
#include "request/multipart.h"

#include <errno.h>
#include <string.h>

DEFINE_CLEANUP(Multipart, multipart_free)

static const MultipartLimits limits = {.max_parts = 3, .max_text_bytes = 20, .max_file_bytes = 40};
static const char type[] = "multipart/form-data; boundary=XX";

#define FIELD(name, value)                                                                         \
    "--XX\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define END "--XX--\r\n"

/* The whole body in pieces of `piece` bytes. */
static int feed(Multipart *m, const char *body, size_t n, size_t piece, Err *err) {
    int r = 0;
    for (size_t at = 0; at < n && r == 0; at += piece)
        r = multipart_feed(m, body + at, MIN(piece, n - at), err);
    return r < 0 ? r : multipart_finish(m, err);
}

static void reads_whatever_the_pieces(void **state) {
    static const char body[] = "before\r\n" FIELD("prompt", "a\r\n--X cat")
            FIELD("empty", "") "--XX\r\ncontent-type: image/png\r\ncontent-disposition: form-data; "
                               "name=\"input_reference\"; filename=\"a "
                               "\\\"b\\\".png\"\r\n\r\n\x89PNG\0\r\n--X\r\n" END "behind --XX\r\n";
    for (size_t piece = 1; piece <= sizeof(body); piece++) {
        _cleanup_(multipart_freep) Multipart *m = NULL;
        Err err = {0};
        assert_int_equal(multipart_new(type, &limits, &m, &err), 0);
        assert_int_equal(feed(m, body, sizeof(body) - 1, piece, &err), 0);
        size_t n;
        const RequestPart *parts = multipart_parts(m, &n);
        assert_int_equal(n, 3);
        assert_string_equal(parts[0].name, "prompt");
        assert_string_equal(parts[0].data, "a\r\n--X cat");
        assert_false(parts[0].is_file);
        assert_string_equal(parts[1].name, "empty");
        assert_int_equal(parts[1].size, 0);
        assert_string_equal(parts[1].data, "");
        assert_string_equal(parts[2].name, "input_reference");
        assert_true(parts[2].is_file);
        assert_int_equal(parts[2].size, 10);
        assert_memory_equal(parts[2].data, "\x89PNG\0\r\n--X", 10);
    }
}

static void refuses(void **state) {
    static const struct {
        const char *body;
        int code;
        const char *part;
    } cases[] = {
            {"", -EINVAL, "without its last delimiter"},
            {"--XX", -EINVAL, "without its last delimiter"},
            {FIELD("a", "b"), -EINVAL, "without its last delimiter"},
            {FIELD("a", "b") "--XX-", -EINVAL, "without its last delimiter"},
            {"--XXY\r\n", -EINVAL, "neither a line's end"},
            {"--XX\r\n\r\nvalue\r\n" END, -EINVAL, "has no name"},
            {"--XX\r\nContent-Disposition: form-data\r\n\r\nvalue\r\n" END, -EINVAL, "no name"},
            {"--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\nvalue\r\n" END, -EINVAL,
                    "cannot be read"},
            {"--XX\r\nContent-Disposition: form-data; name=a\r\n"
             "Content-Transfer-Encoding: base64\r\n\r\nvalue\r\n" END,
                    -EINVAL, "'base64', it must be binary"},
            {FIELD("a", "123456789012345678901") END, -EFBIG, "'a' has more than the limit of 20"},
            {"--XX\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n"
             "12345678901234567890123456789012345678901\r\n" END,
                    -EFBIG, "'f' has more than the limit of 40"},
            {FIELD("a", "") FIELD("b", "") FIELD("c", "") FIELD("d", "") END, -EFBIG,
                    "more than 3 parts"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t piece = 1; piece <= 64; piece += 21) {
            _cleanup_(multipart_freep) Multipart *m = NULL;
            Err err = {0};
            assert_int_equal(multipart_new(type, &limits, &m, &err), 0);
            assert_int_equal(
                    feed(m, cases[i].body, strlen(cases[i].body), piece, &err), cases[i].code);
            assert_non_null(strstr(err_text(&err), cases[i].part));
        }
}

static void refuses_endless_headers(void **state) {
    _cleanup_(multipart_freep) Multipart *m = NULL;
    Err err = {0};
    assert_int_equal(multipart_new(type, &limits, &m, &err), 0);
    assert_int_equal(multipart_feed(m, "--XX\r\nX: ", 9, &err), 0);
    int r = 0;
    for (size_t i = 0; i < 10000 && r == 0; i++)
        r = multipart_feed(m, "y", 1, &err);
    assert_int_equal(r, -EFBIG);
    assert_non_null(strstr(err_text(&err), "more than 4096 bytes"));
}

static void refuses_boundaries(void **state) {
    static const char *const types[] = {
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=\"unended",
            "multipart/form-data; noboundary=x; other",
            "multipart/form-data; boundary=0123456789012345678901234567890123456789"
            "0123456789012345678901234567890",
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        Multipart *m = NULL;
        Err err = {0};
        assert_int_equal(multipart_new(types[i], &limits, &m, &err), -EINVAL);
        assert_null(m);
    }
}

static void accepts_quoted_boundary(void **state) {
    static const char body[] =
            "--a b\r\nContent-Disposition: form-data; name=x\r\n\r\ny\r\n--a b--";
    _cleanup_(multipart_freep) Multipart *m = NULL;
    Err err = {0};
    assert_int_equal(multipart_new("multipart/form-data; charset=\"=;\"; Boundary=\"a b\"", &limits,
                             &m, &err),
            0);
    assert_int_equal(feed(m, body, sizeof(body) - 1, 7, &err), 0);
    size_t n;
    assert_string_equal(multipart_parts(m, &n)[0].data, "y");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(reads_whatever_the_pieces),
            cmocka_unit_test(refuses),
            cmocka_unit_test(refuses_endless_headers),
            cmocka_unit_test(refuses_boundaries),
            cmocka_unit_test(accepts_quoted_boundary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
