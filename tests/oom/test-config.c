/* The configuration: all keys, a file, drop-ins. */
#include "oom.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "config/config.h"

#include <fcntl.h>
#include <sys/stat.h>

static int load(void *context, Err *err) {
    _cleanup_(config_freep) Config *c = NULL;
    return config_load(context, &c, err);
}

int main(void) {
    static const char text[] = "[model]\nname = a\n[defaults]\nnegative_prompt = b,\n  c\n";
    static const char path[] = "oom-config.conf"; /* in the directory of the test's run */
    static const char drop_in[] = "oom-config.conf.d/50-a.conf";
    Err err = {0};
    (void)mkdir("oom-config.conf.d", 0700);
    int r = io_write_file(AT_FDCWD, path, text, sizeof(text) - 1, 0600, &err);
    assert(r == 0);
    r = io_write_file(AT_FDCWD, drop_in, text, sizeof(text) - 1, 0600, &err);
    assert(r == 0);
    oom_count_up("config_load", load, (void *)path, 12);
    (void)unlink(path);
    (void)unlink(drop_in);
    (void)rmdir("oom-config.conf.d");
    return 0;
}
