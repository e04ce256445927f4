#include "config/model-path.h"

#include "base/str.h"

#include <stdlib.h>
#include <unistd.h>

char *config_manifest_path(const Config *c, const char *name) {
    return str_format("%s/models/%s.manifest", c->jobs.state_dir, name);
}

char *config_model_path(const Config *c) {
    char *path = config_manifest_path(c, c->model.name);
    if (!path || access(path, F_OK) == 0)
        return path;
    free(path);
    return strdup(c->model.path);
}
