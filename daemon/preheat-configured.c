#include "preheat-configured.h"

#include "base/cleanup.h"
#include "base/str.h"

const char *configured_where(const Config *c) {
    return c->model.source[0] ? c->model.source : c->model.path;
}

int configured_origin(const Config *c, Origin *ret, char **ret_dir, Err *err) {
    char *dir = str_format("%s/%s", c->source.cache_dir, c->model.name);
    if (!dir)
        return err_set(err, -ENOMEM, "no memory for a path");
    *ret_dir = dir;
    *ret = (Origin){.dir = dir, .source = c->model.source, .pin = c->model.manifest_digest};
    return 0;
}

int configured_manifest(const Config *c, Manifest **ret, Err *err) {
    _cleanup_free_ char *text = NULL;
    if (!c->model.source[0]) {
        text = manifest_kept_path(c->jobs.state_dir, c->model.name);
        if (!text)
            return err_set(err, -ENOMEM, "no memory for a path");
        return manifest_open_kept(c->model.path, text, ret, err);
    }
    Origin o;
    int r = configured_origin(c, &o, &text, err);
    return r < 0 ? r : origin_load(&o, ret, err);
}
