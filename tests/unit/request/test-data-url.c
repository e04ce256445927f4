#include "test.h"

#include "base/cleanup.h"
#include "request/data-url.h"

#include <errno.h>
#include <string.h>

static void decodes(void **state) {
    static const struct {
        const char *url, *bytes;
    } cases[] = {
            {"data:image/png;base64,QQ==", "A"},
            {"data:image/png;base64,QUI=", "AB"},
            {"data:image/jpeg;base64,QUJD", "ABC"},
            {"data:image/webp;charset=x;base64,QUJDRA==", "ABCD"},
            {"data:image/png;base64,+/+/", "\xfb\xff\xbf"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ void *data = NULL;
        size_t n;
        assert_int_equal(data_url_decode(cases[i].url, 10, &data, &n, NULL), 0);
        assert_int_equal(n, strlen(cases[i].bytes));
        assert_memory_equal(data, cases[i].bytes, n);
    }
}

static void refuses(void **state) {
    static const struct {
        const char *url;
        int code;
        const char *part;
    } cases[] = {
            {"http://169.254.169.254/x.png", -EINVAL, "does not fetch"},
            {"https://example.org/x.png", -EINVAL, "does not fetch"},
            {"file:///etc/passwd", -EINVAL, "does not fetch"},
            {"", -EINVAL, "does not fetch"},
            {"data:image/png,abc", -EINVAL, "it must be data:image/png;base64"},
            {"data:;base64,QUJD", -EINVAL, "it must be"},
            {"data:text/html;base64,QUJD", -EINVAL, "it must be"},
            {"data:image/png;base64", -EINVAL, "it must be"},
            {"data:image/png;base64,", -EINVAL, "multiple of 4"},
            {"data:image/png;base64,QUJ", -EINVAL, "multiple of 4"},
            {"data:image/png;base64,QU?D", -EINVAL, "not base64"},
            {"data:image/png;base64,====", -EINVAL, "not base64"},
            {"data:image/png;base64,Q===", -EINVAL, "not base64"},
            {"data:image/png;base64,QQ=A", -EINVAL, "not base64"},
            {"data:image/png;base64,QQ==QUJD", -EINVAL, "not base64"},
            {"data:image/png;base64,QR==", -EINVAL, "not base64"}, /* bits left over */
            {"data:image/png;base64,QUJ=", -EINVAL, "not base64"},
            {"data:image/png;base64,QUJDREVGR0hJSktM", -EFBIG, "12 bytes, the limit is 10"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        void *data = NULL;
        size_t n;
        Err err = {0};
        assert_int_equal(data_url_decode(cases[i].url, 10, &data, &n, &err), cases[i].code);
        assert_non_null(strstr(err_text(&err), cases[i].part));
        assert_null(data);
    }
}

static void sniffs(void **state) {
    assert_string_equal(request_image_kind("\x89PNG\r\n\x1a\n", 8), "PNG");
    assert_string_equal(request_image_kind("\xff\xd8\xff\xe0", 4), "JPEG");
    assert_string_equal(request_image_kind("RIFF....WEBP", 12), "WebP");
    assert_null(request_image_kind("\x89PNG\r\n\x1a\n", 7));
    assert_null(request_image_kind("RIFF....WAVE", 12));
    assert_null(request_image_kind("GIF89a", 6));
    assert_null(request_image_kind("", 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(decodes),
            cmocka_unit_test(refuses),
            cmocka_unit_test(sniffs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
