#include "test.h"

#include "base/err.h"

#include <errno.h>
#include <string.h>

static void set_keeps_sentence(void **state) {
    Err err = {0};
    assert_int_equal(err_set(&err, -EBADMSG, "tensor '%s' is %d", "x", 3), -EBADMSG);
    assert_string_equal(err_text(&err), "tensor 'x' is 3");
    assert_int_equal(err.code, -EBADMSG);
}

static void prefix_goes_in_front(void **state) {
    Err err = {0};
    (void)err_set(&err, -EINVAL, "wrong");
    assert_int_equal(err_prefix(&err, -EINVAL, "file '%s'", "a"), -EINVAL);
    assert_string_equal(err_text(&err), "file 'a': wrong");
}

static void prefix_without_sentence_tells_errno(void **state) {
    Err err = {0};
    (void)err_prefix(&err, -ENOENT, "file 'a'");
    assert_string_equal(err_text(&err), "file 'a': No such file or directory");
}

static void long_sentences_end_in_dots(void **state) {
    char long_text[1000];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    Err err = {0};
    (void)err_set(&err, -EINVAL, "%s", long_text);
    assert_int_equal(strlen(err_text(&err)), sizeof(err.text) - 1);
    assert_string_equal(err_text(&err) + sizeof(err.text) - 4, "...");
    (void)err_prefix(&err, -EINVAL, "prefix");
    assert_memory_equal(err_text(&err), "prefix: xxx", 11);
    assert_string_equal(err_text(&err) + sizeof(err.text) - 4, "...");
}

static void null_err_passes_code(void **state) {
    assert_int_equal(err_set(NULL, -EIO, "lost"), -EIO);
    assert_int_equal(err_prefix(NULL, -EIO, "lost"), -EIO);
    err_clear(NULL);
    assert_string_equal(err_text(NULL), "no error");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(set_keeps_sentence),
            cmocka_unit_test(prefix_goes_in_front),
            cmocka_unit_test(prefix_without_sentence_tells_errno),
            cmocka_unit_test(long_sentences_end_in_dots),
            cmocka_unit_test(null_err_passes_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
