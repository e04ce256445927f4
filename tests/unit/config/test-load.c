#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char directory[] = "/tmp/preheat-config-XXXXXX";
static char *main_file, *drop_ins;

static int setup(void **state) {
    if (!mkdtemp(directory))
        return -1;
    main_file = str_format("%s/preheat.conf", directory);
    drop_ins = str_format("%s/preheat.conf.d", directory);
    return main_file && drop_ins ? mkdir(drop_ins, 0755) : -1;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static int teardown(void **state) {
    free(main_file);
    free(drop_ins);
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void write_file(const char *path, const char *text, size_t n) {
    assert_int_equal(io_write_file(AT_FDCWD, path, text, n, 0644, NULL), 0);
}

static void write_drop_in(const char *name, const char *text) {
    _cleanup_free_ char *path = str_format("%s/%s", drop_ins, name);
    write_file(path, text, strlen(text));
}

static int remove_drop_ins(void **state) {
    static const char *const names[] = {"10-a.conf", "20-b.conf", "30-c.ini", ".40-d.conf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_free_ char *path = str_format("%s/%s", drop_ins, names[i]);
        (void)unlink(path);
    }
    return 0;
}

static Config *load(const char *text) {
    write_file(main_file, text, strlen(text));
    Config *c = NULL;
    Err err = {0};
    if (config_load(main_file, &c, &err) < 0)
        fail_msg("%s", err_text(&err));
    return c;
}

static void empty_file_is_all_defaults(void **state) {
    _cleanup_(config_freep) Config *c = load("");
    assert_string_equal(c->model.name, "tiny-wan");
    assert_string_equal(c->model.segment, "/run/preheat/weights/tiny-wan");
    assert_int_equal(c->backend.kind, CONFIG_BACKEND_AUTO);
    assert_int_equal(c->daemon.idle_exit_usec, 300000000);
    assert_int_equal(c->warmup.chunk_size, 256 << 20);
    assert_string_equal(c->defaults.negative_prompt, "");
    assert_string_equal(c->source.cache_dir, "/var/lib/preheat/models/cache");
    assert_int_equal(c->jobs.resume, CONFIG_RESUME_REQUEUE);
}

static void values_of_every_type_are_read(void **state) {
    _cleanup_(config_freep) Config *c = load("; a comment\n"
                                             "[model]\n"
                                             "name = wan ; and one behind a value\n"
                                             "path=/srv/wan\n"
                                             "source = https://host/a@b\n"
                                             "\n"
                                             "[limits]\n"
                                             "max_fps = 29.97\n"
                                             "max_steps = 60\r\n"
                                             "[warmup]\n"
                                             "chunk_size = 64M\n"
                                             "retry_delay = 250ms\n"
                                             "[model]\n"
                                             "segment = /dev/shm/wan\n");
    assert_string_equal(c->model.name, "wan");
    assert_string_equal(c->model.path, "/srv/wan");
    assert_string_equal(c->model.segment, "/dev/shm/wan");
    assert_string_equal(c->model.source, "https://host/a@b");
    assert_true(c->limits.max_fps > 29.96 && c->limits.max_fps < 29.98);
    assert_int_equal(c->limits.max_steps, 60);
    assert_int_equal(c->warmup.chunk_size, 64 << 20);
    assert_int_equal(c->warmup.retry_delay_usec, 250000);
}

static void text_may_span_lines(void **state) {
    _cleanup_(config_freep) Config *c = load("[defaults]\n"
                                             "negative_prompt = blurred,\n"
                                             "    low quality,\n"
                                             "\ttext\n"
                                             "width = 128\n");
    assert_string_equal(c->defaults.negative_prompt, "blurred, low quality, text");
    assert_int_equal(c->defaults.width, 128);
}

static void drop_ins_override_in_order_of_name(void **state) {
    write_drop_in("20-b.conf", "[limits]\nmax_steps = 22\n");
    write_drop_in("10-a.conf", "[limits]\nmax_steps = 11\nmax_n = 2\n");
    write_drop_in("30-c.ini", "[limits]\nmax_steps = 33\n");
    write_drop_in(".40-d.conf", "[limits]\nmax_steps = 44\n");
    _cleanup_(config_freep) Config *c = load("[limits]\nmax_steps = 50\nmax_n = 3\nmax_frames=9\n");
    assert_int_equal(c->limits.max_steps, 22);
    assert_int_equal(c->limits.max_n, 2);
    assert_int_equal(c->limits.max_frames, 9);
}

static void bad_drop_in_is_named(void **state) {
    write_drop_in("10-a.conf", "[limits]\n\nmax_n = many\n");
    write_file(main_file, "", 0);
    Config *c = NULL;
    Err err = {0};
    assert_int_equal(config_load(main_file, &c, &err), -EINVAL);
    _cleanup_free_ char *wanted = str_format(
            "%s/10-a.conf:3: max_n = 'many', allowed is a whole number from 1 to 64", drop_ins);
    assert_string_equal(err_text(&err), wanted);
}

static void refusals_name_file_line_found_allowed(void **state) {
    static const struct {
        const char *text, *sentence;
    } cases[] = {
            {"[model]\nnmae = x\n",
                    ":2: [model] has no key 'nmae', it has: name, path, segment, source, "
                    "manifest_digest"},
            {"\n\n[modle]\nname = x\n",
                    ":4: there is no section [modle], there are: model, source, backend, daemon, "
                    "limits, defaults, jobs, media, warmup"},
            {"name = x\n", ":1: 'name' stands before the first [section]"},
            {"[model]\nname = x\npath = /a\nname = y\n", ":4: 'name' was already set in line 2"},
            {"[model]\nname\n", ":2: is neither [section] nor key = value"},
            {"[model\nname = x\n", ":1: is neither [section] nor key = value"},
            {"[limits]\nmax_n = 0\n", ":2: max_n = '0', allowed is a whole number from 1 to 64"},
            {"[limits]\nmax_n = 1\n  2\n",
                    ":3: the line starts with white space, hence continues 'max_n', which takes "
                    "one line"},
            {"[model]\nname = \xc3(\n", ": is not UTF-8 text"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        write_file(main_file, cases[i].text, strlen(cases[i].text));
        Config *c = NULL;
        Err err = {0};
        assert_int_equal(config_load(main_file, &c, &err), -EINVAL);
        _cleanup_free_ char *wanted = str_format("%s%s", main_file, cases[i].sentence);
        assert_string_equal(err_text(&err), wanted);
        assert_null(c);
    }
}

static void values_are_held_against_each_other(void **state) {
    static const struct {
        const char *text, *sentence;
    } cases[] = {
            {"[defaults]\nsteps = 101\n",
                    "[defaults] steps = 101 is above [limits], which allow 100"},
            {"[defaults]\nwidth = 1280\nheight = 1280\n",
                    "[defaults] width times height = 1.6384e+06 is above [limits], which allow "
                    "921600"},
            {"[warmup]\nchunk_size = 3M\n",
                    "[warmup] chunk_size = 3145728 is not a multiple of 2M"},
            {"[daemon]\nallowed_hosts = a.example http://b.example\n",
                    "[daemon] allowed_hosts has 'http://b.example', wanted are names without '/' "
                    "and port"},
            {"[daemon]\nallowed_hosts = a.example:80\n",
                    "[daemon] allowed_hosts has 'a.example:80', wanted are names without '/' and "
                    "port"},
            {"[daemon]\nallowed_hosts = [fd00::1]:80\n",
                    "[daemon] allowed_hosts has '[fd00::1]:80', wanted are names without '/' and "
                    "port"},
            {"[model]\nsource = ftp://host/x\n",
                    "[model] source = 'ftp://host/x' must begin with https://, http:// or s3://"},
            {"[model]\nsource = /srv/x\n",
                    "[model] source = '/srv/x' must begin with https://, http:// or s3://"},
            {"[model]\nsource = https://user:secret@host/x\n",
                    "[model] source has an '@': users and passwords do not belong into a file that "
                    "everybody may read"},
            {"[model]\nsource = s3://user@host\n",
                    "[model] source has an '@': users and passwords do not belong into a file that "
                    "everybody may read"},
            {"[model]\nmanifest_digest = 0123\n",
                    "[model] manifest_digest = '0123' is not 32 hexadecimal digits"},
            {"[warmup]\nread_size = 5000\n", "[warmup] read_size = 5000 is not a multiple of 4K"},
            {"[model]\nname = ../x\n",
                    "[model] name = '../x' names a file: it must have no '/' and not begin with "
                    "'.'"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        write_file(main_file, cases[i].text, strlen(cases[i].text));
        Config *c = NULL;
        Err err = {0};
        assert_int_equal(config_load(main_file, &c, &err), -EINVAL);
        assert_string_equal(err_text(&err), cases[i].sentence);
    }
}

static void long_lines_and_files_are_refused(void **state) {
    _cleanup_free_ char *text = malloc((1 << 20) + 1);
    memset(text, 'x', (1 << 20) + 1);
    memcpy(text, "[model]\nname = ", 15);
    write_file(main_file, text, 1000);
    Config *c = NULL;
    Err err = {0};
    assert_int_equal(config_load(main_file, &c, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), ":2: the line has 992 bytes, allowed are "));
    write_file(main_file, text, (1 << 20) + 1);
    err_clear(&err);
    assert_int_equal(config_load(main_file, &c, &err), -EFBIG);
    write_file(main_file, "a\0b", 3);
    err_clear(&err);
    assert_int_equal(config_load(main_file, &c, &err), -EINVAL);
}

static void given_file_must_exist(void **state) {
    Config *c = NULL;
    Err err = {0};
    assert_int_equal(config_load("/nonexistent/preheat.conf", &c, &err), -ENOENT);
    assert_non_null(strstr(err_text(&err), "/nonexistent/preheat.conf"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(empty_file_is_all_defaults),
            cmocka_unit_test(values_of_every_type_are_read),
            cmocka_unit_test(text_may_span_lines),
            cmocka_unit_test_teardown(drop_ins_override_in_order_of_name, remove_drop_ins),
            cmocka_unit_test_teardown(bad_drop_in_is_named, remove_drop_ins),
            cmocka_unit_test(refusals_name_file_line_found_allowed),
            cmocka_unit_test(values_are_held_against_each_other),
            cmocka_unit_test(long_lines_and_files_are_refused),
            cmocka_unit_test(given_file_must_exist),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
