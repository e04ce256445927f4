#include "test.h"

#include "base/err.h"
#include "base/macro.h"
#include "clean-vectors.h"
#include "model/clean.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void prompts_become_the_references(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(clean_vectors); i++) {
        char *clean = NULL;
        assert_int_equal(clean_prompt(clean_vectors[i].prompt, strlen(clean_vectors[i].prompt),
                                 &clean, NULL),
                0);
        assert_string_equal(clean, clean_vectors[i].cleaned);
        free(clean);
    }
}

/* What is clean stays as it is, but where a reference hides in what was decoded. */
static void cleaning_again_changes_nothing(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(clean_vectors); i++) {
        const char *once = clean_vectors[i].cleaned;
        if (strchr(once, '&') || strstr(once, "\xc2") || strstr(once, "\xca\xbc"))
            continue;
        char *again = NULL;
        assert_int_equal(clean_prompt(once, strlen(once), &again, NULL), 0);
        assert_string_equal(again, once);
        free(again);
    }
}

/* Where clean.h says that we differ: ftfy makes "só" of this. */
static void mojibake_stays(void **state) {
    char *clean = NULL;
    assert_int_equal(clean_prompt("s\xc3\x83\xc2\xb3", 5, &clean, NULL), 0);
    assert_string_equal(clean, "s\xc3\x83\xc2\xb3");
    free(clean);
}

/* One pass for each "amp;", in as many characters as [limits] max_prompt_chars can allow: the worst
 * that a prompt can ask for must end in a moment. */
static void longest_chain_of_references_ends(void **state) {
    enum { CHARS = 32000 };
    static char text[CHARS];
    char *clean = NULL;
    text[0] = '&';
    for (size_t i = 1; i < CHARS; i++)
        text[i] = "amp;"[(i - 1) % 4];
    assert_int_equal(clean_prompt(text, CHARS, &clean, NULL), 0);
    assert_string_equal(clean, "&");
    free(clean);
}

/* U+1D160 is three code points of four bytes in NFC: nothing grows more. */
static void no_text_grows_beyond_what_is_said(void **state) {
    static char text[CLEAN_MAX_BYTES];
    char *clean = NULL;
    for (size_t i = 0; i < sizeof(text); i += 4)
        memcpy(text + i, "\U0001D160", 4);
    assert_int_equal(clean_prompt(text, sizeof(text), &clean, NULL), 0);
    assert_int_equal(strlen(clean), CLEAN_MAX_RESULT);
    free(clean);
}

static void bad_text_is_refused(void **state) {
    static char big[CLEAN_MAX_BYTES + 1];
    static const struct {
        const char *text;
        size_t n;
        int r;
        const char *sentence;
    } cases[] = {
            {"a\0b", 3, -EINVAL, "the prompt has a NUL at byte 1"},
            {"a\xff", 2, -EINVAL, "the prompt is not UTF-8"},
            {"\xed\xa0\x80", 3, -EINVAL, "the prompt is not UTF-8"},
            {"\xe7\x8c", 2, -EINVAL, "the prompt is not UTF-8"},
            {big, sizeof(big), -EINVAL, "the prompt has 131073 bytes, at most 131072 are read"},
    };
    memset(big, 'a', sizeof(big));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        char *clean = NULL;
        assert_int_equal(clean_prompt(cases[i].text, cases[i].n, &clean, &err), cases[i].r);
        assert_string_equal(err_text(&err), cases[i].sentence);
        assert_null(clean);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(prompts_become_the_references),
            cmocka_unit_test(cleaning_again_changes_nothing),
            cmocka_unit_test(mojibake_stays),
            cmocka_unit_test(longest_chain_of_references_ends),
            cmocka_unit_test(no_text_grows_beyond_what_is_said),
            cmocka_unit_test(bad_text_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
