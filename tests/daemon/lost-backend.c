/* The CPU's engine as a module, lost as soon as the file exists that PREHEAT_TEST_LOST names. */
#include "backend/cpu/module.h"
#include "backend/interface.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static BackendOps ops;
static int (*sync_cpu)(Stream *s, Err *err);

static int sync_or_fail(Stream *s, Err *err) {
    const char *file = getenv("PREHEAT_TEST_LOST");
    if (file && access(file, F_OK) == 0)
        return err_set(err, -EIO, "the device does not answer");
    return sync_cpu(s, err);
}

static int open_lost(const BackendOptions *options, Backend **ret, Err *err) {
    int r = backend_cpu.open(options, ret, err);
    if (r < 0)
        return r;
    ops = *(*ret)->ops;
    sync_cpu = ops.stream_sync;
    ops.stream_sync = sync_or_fail;
    (*ret)->ops = &ops;
    return 0;
}

__attribute__((visibility("default")))
const BackendModule preheat_backend = {.abi = BACKEND_ABI, .name = "lost", .open = open_lost};
