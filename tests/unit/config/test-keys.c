#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "config/config.h"
#include "config/example.h"
#include "config/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static Config config;

static int set(const char *section, const char *name, const char *text, Err *err) {
    bool known;
    const Key *k = key_find(section, name, &known);
    assert_non_null(k);
    return key_set(k, text, &config, err);
}

static int done(void **state) {
    size_t n;
    const Key *keys = key_table(&n);
    for (size_t i = 0; i < n; i++)
        key_free(&keys[i], &config);
    return 0;
}

static void every_default_is_allowed(void **state) {
    size_t n;
    const Key *keys = key_table(&n);
    for (size_t i = 0; i < n; i++) {
        Err err = {0};
        if (key_set(&keys[i], keys[i].default_text, &config, &err) < 0)
            fail_msg("[%s] %s", keys[i].section, err_text(&err));
    }
}

static void no_maximum_leaves_int64(void **state) {
    size_t n;
    const Key *keys = key_table(&n);
    for (size_t i = 0; i < n; i++)
        assert_true(keys[i].max * (keys[i].type == KEY_SPAN ? 1e6 : 1) < 0x1p62);
}

static void sizes_and_spans_take_units(void **state) {
    static const struct {
        const char *text;
        uint64_t value;
    } sizes[] = {{"2097152", 2 << 20}, {"2M", 2 << 20}, {"2048K", 2 << 20}, {"1G", 1 << 30},
            {"0.5G", 1 << 29}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(set("warmup", "chunk_size", sizes[i].text, NULL), 0);
        assert_int_equal(config.warmup.chunk_size, sizes[i].value);
    }
    static const struct {
        const char *text;
        uint64_t usec;
    } spans[] = {{"20", 20000000}, {"20s", 20000000}, {"15000ms", 15000000}, {"1.5min", 90000000},
            {"2h", 7200000000}, {"1d", 86400000000}, {"0", 0}};
    for (size_t i = 0; i < ARRAY_LEN(spans); i++) {
        assert_int_equal(set("daemon", "idle_exit", spans[i].text, NULL), 0);
        assert_int_equal(config.daemon.idle_exit_usec, spans[i].usec);
    }
}

static void refusals_name_found_and_allowed(void **state) {
    static const struct {
        const char *section, *name, *text, *sentence;
    } cases[] = {
            {"daemon", "idle_exit", "9s",
                    "idle_exit = '9s', allowed is a time from 10s to 30d; 0: never"},
            {"daemon", "idle_exit", "10 s",
                    "idle_exit = '10 s', allowed is a time from 10s to 30d; 0: never"},
            {"daemon", "queue_limit", "0",
                    "queue_limit = '0', allowed is a whole number from 1 to 10000"},
            {"daemon", "queue_limit", "1e3",
                    "queue_limit = '1e3', allowed is a whole number from 1 to 10000"},
            {"daemon", "queue_limit", "99999999999999999999",
                    "queue_limit = '99999999999999999999', allowed is a whole number from 1 to "
                    "10000"},
            {"warmup", "chunk_size", "1M", "chunk_size = '1M', allowed is a size from 2M to 1G"},
            {"warmup", "chunk_size", "2m", "chunk_size = '2m', allowed is a size from 2M to 1G"},
            {"warmup", "chunk_size", "", "chunk_size = '', allowed is a size from 2M to 1G"},
            {"backend", "kind", "gpu", "kind = 'gpu', allowed is auto, cpu or cuda"},
            {"backend", "kind", "cpu cuda", "kind = 'cpu cuda', allowed is auto, cpu or cuda"},
            {"backend", "kind", "", "kind = '', allowed is auto, cpu or cuda"},
            {"jobs", "resume", "Fail", "resume = 'Fail', allowed is requeue or fail"},
            {"jobs", "state_dir", "", "state_dir = '', allowed is a path that begins with '/'"},
            {"jobs", "state_dir", "var",
                    "state_dir = 'var', allowed is a path that begins with '/'"},
            {"model", "name", "", "name = '', allowed is UTF-8 text of 1 to 64 bytes"},
            {"model", "name", "\xff", "name = '\xff', allowed is UTF-8 text of 1 to 64 bytes"},
            {"model", "name", "a\tb", "name = 'a\tb', allowed is UTF-8 text of 1 to 64 bytes"},
            {"limits", "max_fps", "nan", "max_fps = 'nan', allowed is a number from 1 to 240"},
            {"limits", "max_fps", "241", "max_fps = '241', allowed is a number from 1 to 240"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        assert_int_equal(set(cases[i].section, cases[i].name, cases[i].text, &err), -EINVAL);
        assert_string_equal(err_text(&err), cases[i].sentence);
    }
}

static void choices_become_their_index(void **state) {
    static const char *const words[] = {"auto", "cpu", "cuda"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(set("backend", "kind", words[i], NULL), 0);
        assert_int_equal(config.backend.kind, i);
    }
    assert_int_equal(set("warmup", "reserve", "none", NULL), 0);
    assert_int_equal(config.warmup.reserve, CONFIG_RESERVE_NONE);
    assert_int_equal(set("jobs", "resume", "fail", NULL), 0);
    assert_int_equal(config.jobs.resume, CONFIG_RESUME_FAIL);
}

/* The file as installed is what the table says; "test-config-keys --print" of a build with prefix
 * /usr writes a new one for the tree. */
static void shipped_file_matches_table(void **state) {
    Buf example = {0};
    example_print(&example);
    assert_false(buf_failed(&example));
    _cleanup_free_ char *shipped = NULL;
    size_t n;
    Err err = {0};
    if (io_read_file(AT_FDCWD, PREHEAT_SHIPPED_CONF, 1 << 20, &shipped, &n, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_string_equal(shipped, example.data);
    buf_done(&example);
}

int main(int argc, char **argv) {
    if (argc == 2 && str_eq(argv[1], "--print")) {
        Buf example = {0};
        example_print(&example);
        int r = buf_failed(&example) ? -ENOMEM : io_write_all(1, example.data, example.size);
        buf_done(&example);
        return r < 0;
    }
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_default_is_allowed),
            cmocka_unit_test(no_maximum_leaves_int64),
            cmocka_unit_test(sizes_and_spans_take_units),
            cmocka_unit_test(refusals_name_found_and_allowed),
            cmocka_unit_test(choices_become_their_index),
            cmocka_unit_test(shipped_file_matches_table),
    };
    return cmocka_run_group_tests(tests, NULL, done);
}
