#include "config/config.h"

#include "base/io.h"
#include "base/str.h"
#include "config/keys.h"
#include "config/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define SEGMENT_DIR "/run/preheat/weights"

const char *config_default_path(void) {
    return PREHEAT_CONFIG_FILE;
}

static int load_file(int dir_fd, const char *name, const char *shown, Config *c, Err *err) {
    _cleanup_free_ char *text = NULL;
    size_t n;
    int r = io_read_file(dir_fd, name, PARSE_MAX_FILE, &text, &n, err);
    if (r < 0)
        return r;
    return parse_text(shown, text, n, c, err);
}

static int is_conf(const struct dirent *e) {
    return e->d_name[0] != '.' && str_ends(e->d_name, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name); /* alphasort() would follow the locale */
}

static int load_drop_ins(const char *path, Config *c, Err *err) {
    _cleanup_free_ char *dir = str_format("%s.d", path);
    if (!dir)
        return err_set(err, -ENOMEM, "out of memory");
    struct dirent **entries;
    int n = scandir(dir, &entries, is_conf, by_name);
    if (n < 0)
        return errno == ENOENT ? 0
                               : err_set(err, -errno, "cannot list '%s': %s", dir, strerror(errno));
    int r = 0;
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *file = str_format("%s/%s", dir, entries[i]->d_name);
        if (r == 0)
            r = file ? load_file(AT_FDCWD, file, file, c, err)
                     : err_set(err, -ENOMEM, "out of memory");
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int name_file(char **path, const char *dir, const char *name, Err *err) {
    if ((*path)[0])
        return 0;
    char *text = str_format("%s/%s", dir, name);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    free(*path);
    *path = text;
    return 0;
}

static int finish(Config *c, Err *err) {
    int r = parse_check(c, err);
    if (r == 0)
        r = name_file(&c->model.segment, SEGMENT_DIR, c->model.name, err);
    if (r == 0)
        r = name_file(&c->source.cache_dir, c->jobs.state_dir, "models/cache", err);
    return r;
}

int config_new(Config **ret, Err *err) {
    _cleanup_(config_freep) Config *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, -ENOMEM, "configuration: out of memory");
    int r = parse_defaults(c, err);
    if (r == 0)
        r = finish(c, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(c);
    return 0;
}

int config_load(const char *path, Config **ret, Err *err) {
    return config_load_variant(path, NULL, ret, err);
}

int config_load_variant(const char *path, const char *variant, Config **ret, Err *err) {
    _cleanup_(config_freep) Config *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, -ENOMEM, "configuration: out of memory");
    int r = parse_defaults(c, err);
    if (r < 0)
        return r;

    const char *main_file = path ? path : config_default_path();
    r = load_file(AT_FDCWD, main_file, main_file, c, err);
    if (r == -ENOENT && !path) {
        err_clear(err);
        r = 0;
    }
    if (r == 0)
        r = load_drop_ins(main_file, c, err);
    if (r == 0 && variant)
        r = load_file(AT_FDCWD, variant, variant, c, err);
    if (r == 0)
        r = finish(c, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(c);
    return 0;
}

Config *config_free(Config *c) {
    if (!c)
        return NULL;
    size_t n;
    const Key *keys = key_table(&n);
    for (size_t i = 0; i < n; i++)
        key_free(&keys[i], c);
    free(c);
    return NULL;
}
