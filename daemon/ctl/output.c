#include "ctl/output.h"

#include "base/str.h"

#include <sys/stat.h>

int output_open(const char *path, Output *ret, Err *err) {
    Output o = {.fd = STDOUT_FILENO};
    struct stat st;
    if (!str_eq(path, "-")) {
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            return err_set(err, -EISDIR, "cannot write '%s': %s", path, strerror(EISDIR));
        o.path = strdup(path);
        o.temporary = str_format("%s.XXXXXX.part", path);
        if (!o.path || !o.temporary) {
            free(o.path);
            free(o.temporary);
            return err_set(err, -ENOMEM, "no memory to write '%s'", path);
        }
        o.fd = mkostemps(o.temporary, 5, 0);
        if (o.fd < 0) {
            int r = -errno;
            free(o.path);
            free(o.temporary);
            return err_set(err, r, "cannot write '%s': %s", path, strerror(-r));
        }
    }
    *ret = o;
    return 0;
}

int output_check(const char *path, Err *err) {
    Output o = {.fd = -1};
    if (!path)
        return access(".", W_OK) == 0
                       ? 0
                       : err_set(err, -errno, "cannot write into the current directory: %s",
                                 strerror(errno));
    int r = output_open(path, &o, err);
    if (r == 0)
        output_done(&o);
    return r;
}

int output_publish(Output *o, Err *err) {
    if (!o->temporary)
        return 0;
    mode_t mask = umask(0);
    (void)umask(mask);
    if (fchmod(o->fd, 0666 & ~mask) < 0 || fsync(o->fd) < 0 || rename(o->temporary, o->path) < 0)
        return err_set(err, -errno, "cannot write '%s': %s", o->path, strerror(errno));
    free(o->temporary);
    o->temporary = NULL;
    return 0;
}

void output_done(Output *o) {
    if (o->temporary)
        (void)unlink(o->temporary);
    if (o->path)
        fd_closep(&o->fd);
    free(o->temporary);
    free(o->path);
    *o = (Output){.fd = -1};
}
