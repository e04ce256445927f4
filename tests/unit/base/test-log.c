#include "test.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <fcntl.h>
#include <string.h>

static char text[8192];

/* What body writes to stderr. */
static const char *captured(void (*body)(void)) {
    int saved = dup(STDERR_FILENO), file = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    assert_true(saved >= 0 && file >= 0);
    (void)dup2(file, STDERR_FILENO);
    body();
    (void)fflush(stderr);
    (void)dup2(saved, STDERR_FILENO);
    ssize_t n = pread(file, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    (void)close(saved);
    (void)close(file);
    return text;
}

static void each_priority(void) {
    log_open("test");
    log_error("e %d", 1);
    log_warning("w");
    log_notice("n");
    log_info("i");
    log_debug("d");
}

static void priorities_are_prefixes(void **state) {
    assert_string_equal(
            captured(each_priority), "<3>test: e 1\n<4>test: w\n<5>test: n\n<6>test: i\n");
    log_set_max(LOG_DEBUG);
    assert_non_null(strstr(captured(each_priority), "<7>test: d\n"));
    log_set_max(LOG_INFO);
}

static void with_fields(void) {
    LogFields fields = {LOG_ID_READY, "JOB=x", NULL};
    log_line(LOG_NOTICE, fields, "ready");
}

static void fields_are_for_the_journal_only(void **state) {
    assert_string_equal(captured(with_fields), "<5>test: ready\n");
}

static void long_line(void) {
    char line[5000];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    log_info("%s", line);
}

static void long_lines_end_in_dots(void **state) {
    const char *line = captured(long_line);
    size_t n = strlen(line);
    assert_in_range(n, 2000, 2100);
    assert_string_equal(line + n - 4, "...\n");
}

/* A stream that is not stderr's must not send lines to a journal. */
static void foreign_journal_stream_is_ignored(void **state) {
    (void)setenv("JOURNAL_STREAM", "1:2", 1);
    assert_memory_equal(captured(each_priority), "<3>test: e 1\n", 13);
    (void)setenv("JOURNAL_STREAM", "nonsense", 1);
    assert_memory_equal(captured(each_priority), "<3>test: e 1\n", 13);
    (void)unsetenv("JOURNAL_STREAM");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(priorities_are_prefixes),
            cmocka_unit_test(fields_are_for_the_journal_only),
            cmocka_unit_test(long_lines_end_in_dots),
            cmocka_unit_test(foreign_journal_stream_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
