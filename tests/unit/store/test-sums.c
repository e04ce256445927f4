#include "test.h"

#include "model.h"
#include "store/sha256.h"
#include "store/sums.h"

#include <errno.h>

static void sum_of(const char *data, size_t n, size_t step, char text[65]) {
    Sha256 s;
    uint8_t sum[SHA256_BYTES];
    sha256_init(&s);
    for (size_t at = 0; at < n; at += step)
        sha256_add(&s, data + at, n - at < step ? n - at : step);
    sha256_finish(&s, sum);
    for (int i = 0; i < SHA256_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", sum[i]);
}

/* Vectors of FIPS 180-2, appendix B, and the empty message. */
static void vectors_of_the_standard(void **state) {
    static char million[1000000];
    memset(million, 'a', sizeof(million));
    const struct {
        const char *data;
        size_t n;
        const char *sum;
    } cases[] = {
            {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
            {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
            {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
                    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
            {million, sizeof(million),
                    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    static const size_t steps[] = {1, 7, 63, 64, 65, 1000, 1000000};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 7; k++) {
            char text[65];
            sum_of(cases[i].data, cases[i].n, steps[k], text);
            assert_string_equal(text, cases[i].sum);
        }
}

static void lists_are_checked(void **state) {
    Model model;
    Manifest *m;
    SumsReport report;
    model_make_whole(&model, 2);
    assert_int_equal(manifest_scan(model.dir, 0, &m, NULL), 0);
    model_text(&model, "abc", "abc");
    char list[128], text[512];
    (void)snprintf(list, sizeof(list), "%s/SUMS", model.dir);
    const char *right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const struct {
        const char *format;
        int code;
        const char *says;
    } cases[] = {
            {"%s  abc\n", 0, ""},
            {"# sums\r\n\r\n%s *./abc\r\n", 0, ""},
            {"%s  vae/config.json\n", -EBADMSG, "the list says ba7816bf"},
            {"%s  nothing\n", -ENOENT, "'nothing'"},
            {"%s  vae\n", -EINVAL, "'vae'"},
            {"%s  /etc/passwd\n", -EINVAL, "line 1"},
            {"\n%s  vae/../../x\n", -EINVAL, "line 2"},
            {"%s  ..\n", -EINVAL, "line 1"},
            {"%s abc\n", -EINVAL, "line 1"},
            {"%s\n", -EINVAL, "line 1"},
            {"0%s  abc\n", -EINVAL, "line 1"},
            {"sha256:%s  abc\n", -EINVAL, "line 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Err err = {0};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(text, sizeof(text), cases[i].format, right);
#pragma GCC diagnostic pop
        model_text(&model, "SUMS", text);
        int r = sums_check(m, list, NULL, &report, &err);
        if (r != cases[i].code || (r < 0 && !strstr(err_text(&err), cases[i].says)))
            fail_msg("%s: %d, %s", cases[i].format, r, err_text(&err));
        if (r == 0) {
            assert_int_equal(report.n_checked, 1);
            assert_int_equal(report.n_unlisted, 3);
        }
    }
    manifest_free(m);
    model_done(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(vectors_of_the_standard),
            cmocka_unit_test(lists_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
