#include "test.h"

#include "base/digest.h"

#include <errno.h>
#include <string.h>

/* As printed by xxhsum -H2 (xxHash 0.8.1). */
static void values_are_those_of_xxhsum(void **state) {
    static const struct {
        const char *text, *hex;
    } cases[] = {
            {"", "99aa06d3014798d86001c324468d497f"},
            {"abc", "06b05ab6733a618578af5f94892f3950"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char hex[DIGEST_HEX_SIZE];
        Digest d = digest_of(cases[i].text, strlen(cases[i].text));
        assert_string_equal(digest_hex(&d, hex), cases[i].hex);
    }
}

static void pieces_make_the_same_digest(void **state) {
    unsigned char data[5000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 31 + i / 256);
    Digest whole = digest_of(data, sizeof(data));
    DigestState *s = digest_state_new();
    for (size_t piece = 1; piece < 2000; piece = piece * 3 + 1) {
        digest_state_reset(s);
        for (size_t at = 0; at < sizeof(data); at += piece)
            digest_state_add(s, data + at, MIN(piece, sizeof(data) - at));
        Digest d = digest_state_get(s);
        assert_true(digest_eq(&d, &whole));
    }
    assert_null(digest_state_free(s));
    assert_null(digest_state_free(NULL));
}

static void every_flipped_bit_shows(void **state) {
    unsigned char data[64] = {0};
    Digest zero = digest_of(data, sizeof(data));
    for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        Digest d = digest_of(data, sizeof(data));
        assert_false(digest_eq(&d, &zero));
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

static void text_round_trips_or_is_refused(void **state) {
    Digest d = digest_of("abc", 3), parsed;
    char hex[DIGEST_HEX_SIZE];
    assert_int_equal(digest_parse(digest_hex(&d, hex), &parsed), 0);
    assert_true(digest_eq(&d, &parsed));
    static const char *const bad[] = {"", "06b05ab6733a618578af5f94892f395",
            "06b05ab6733a618578af5f94892f39500", "g6b05ab6733a618578af5f94892f3950",
            " 6b05ab6733a618578af5f94892f3950"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(digest_parse(bad[i], &parsed), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(values_are_those_of_xxhsum),
            cmocka_unit_test(pieces_make_the_same_digest),
            cmocka_unit_test(every_flipped_bit_shows),
            cmocka_unit_test(text_round_trips_or_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
