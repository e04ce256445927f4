#include "test.h"

#include "ctl/sha256.h"

#include <string.h>

/* Examples of FIPS 180-4 and of its validation suite; the last is a million times "a". */
static const struct {
    const char *text;
    int n_times;
    const char *sum;
} cases[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

static void known_sums(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Sha256 s;
        char text[SHA256_HEX_SIZE];
        sha256_init(&s);
        for (int k = 0; k < cases[i].n_times; k++)
            sha256_add(&s, cases[i].text, strlen(cases[i].text));
        assert_string_equal(sha256_hex(&s, text), cases[i].sum);
    }
}

static void pieces_make_no_difference(void **state) {
    char bytes[300], whole[SHA256_HEX_SIZE], pieces[SHA256_HEX_SIZE];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 7);
    for (size_t n = 0; n < sizeof(bytes); n++) {
        Sha256 a, b;
        sha256_init(&a);
        sha256_init(&b);
        sha256_add(&a, bytes, n);
        for (size_t at = 0, step = 1; at < n; at += step, step = step * 3 % 97)
            sha256_add(&b, bytes + at, n - at < step ? n - at : step);
        assert_string_equal(sha256_hex(&a, whole), sha256_hex(&b, pieces));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(known_sums),
            cmocka_unit_test(pieces_make_no_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
