/* An engine whose first calls fail: another module's, named by PREHEAT_TEST_BACKEND, or the CPU's.
 *
 * PREHEAT_TEST_FAULTS is "KIND=N ...": the first N calls of the kind fail in this process.
 *   open    the device has no memory left for us
 *   memory  the same, for a piece of device memory
 *   pin     pages cannot be locked
 *   hang    opening takes N ms
 *   total   the device has N MiB of its own, the host's in truth */
#include "backend/backend.h"
#include "backend/cpu/module.h"
#include "backend/interface.h"
#include "base/macro.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Fault { FAULT_OPEN, FAULT_MEMORY, FAULT_PIN, FAULT_HANG, FAULT_TOTAL, N_FAULTS } Fault;

static BackendOps ops, real;
static atomic_int left[N_FAULTS];

static void read_faults(void) {
    static const char *const names[N_FAULTS] = {"open=", "memory=", "pin=", "hang=", "total="};
    const char *text = getenv("PREHEAT_TEST_FAULTS");
    for (int i = 0; text && i < N_FAULTS; i++) {
        const char *at = strstr(text, names[i]);
        if (at)
            atomic_store(&left[i], (int)strtol(at + strlen(names[i]), NULL, 10));
    }
}

static bool is_due(Fault f) {
    return atomic_load(&left[f]) > 0 && atomic_fetch_sub(&left[f], 1) > 0;
}

static int memory_new_or_fail(Backend *b, size_t bytes, Memory **ret, Err *err) {
    if (is_due(FAULT_MEMORY))
        return err_set(err, -ENOMEM, "injected: no device memory for %zu bytes", bytes);
    return real.memory_new(b, bytes, ret, err);
}

static int pin_or_fail(Backend *b, const void *data, size_t bytes, Err *err) {
    if (is_due(FAULT_PIN))
        return err_set(err, -EPERM, "injected: %zu bytes cannot be registered", bytes);
    return real.pin(b, data, bytes, err);
}

static int open_faulty(const BackendOptions *options, Backend **ret, Err *err) {
    static atomic_flag has_read = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&has_read))
        read_faults();
    (void)poll(NULL, 0, atomic_exchange(&left[FAULT_HANG], 0));
    if (is_due(FAULT_OPEN))
        return err_set(err, -ENOMEM, "injected: no device memory for a context");
    const BackendModule *module = &backend_cpu;
    const char *path = getenv("PREHEAT_TEST_BACKEND");
    int r = path ? backend_load(path, &module, err) : 0;
    if (r == 0)
        r = module->open(options, ret, err);
    if (r < 0)
        return r;
    ops = real = *(*ret)->ops;
    ops.memory_new = memory_new_or_fail;
    ops.pin = pin_or_fail;
    (*ret)->ops = &ops;
    if (atomic_load(&left[FAULT_TOTAL]) > 0)
        (*ret)->info.memory_total = (uint64_t)atomic_load(&left[FAULT_TOTAL]) << 20;
    return 0;
}

__attribute__((visibility("default")))
const BackendModule preheat_backend = {.abi = BACKEND_ABI, .name = "faulty", .open = open_faulty};
