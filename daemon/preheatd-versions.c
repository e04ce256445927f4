#include "preheatd-versions.h"

#include "backend/interface.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "store/manifest-format.h"
#include "store/segment-format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef PREHEAT_VERSION
#error "PREHEAT_VERSION comes from daemon/meson.build"
#endif

#define LOCK_MAX_BYTES ((size_t)65536)
#define MODULE_NAME "preheat-backend-cuda.so"

static int add_number(VersionLock *l, const char *kind, const char *name, int number, Err *err) {
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", number);
    return version_lock_add(l, kind, name, text, err);
}

/* Whatever this file was compiled with. */
static int add_own(VersionLock *l, Err *err) {
    int r = version_lock_add(l, "program", "preheatd", PREHEAT_VERSION, err);
    if (r == 0)
        r = add_number(l, "format", "manifest", FORMAT_VERSION, err);
    if (r == 0)
        r = add_number(l, "format", "segment", SEGMENT_VERSION, err);
    if (r == 0)
        r = add_number(l, "contract", "backend", BACKEND_ABI, err);
    return r == 0 ? version_lock_add_loaded(l, err) : r;
}

static int add_module(VersionLock *l, const char *path, Err *err) {
    char id[BUILD_ID_SIZE];
    int r = build_id_of_file(path, id, err);
    return r == 0 ? version_lock_add(l, "module", MODULE_NAME, id, err) : r;
}

/* The first word of digits and points: "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64
 * 580.65.06  Release Build ...". Nothing is added where no driver is loaded. */
static int add_driver(VersionLock *l, Err *err) {
    char text[1024];
    if (io_read_proc("/proc/driver/nvidia/version", text, sizeof(text), NULL) < 0)
        return 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest))
        if (strchr(word, '.') && strspn(word, "0123456789.") == strlen(word))
            return version_lock_add(l, "driver", "nvidia", word, err);
    return 0;
}

int versions_found(const char *module, VersionLock *ret, Err *err) {
    *ret = (VersionLock){0};
    int r = add_own(ret, err);
    if (r == 0 && module && access(module, F_OK) == 0)
        r = add_module(ret, module, err);
    return r == 0 ? add_driver(ret, err) : r;
}

int versions_lock(const char *module, VersionLock *ret, Err *err) {
    *ret = (VersionLock){0};
    int r = add_own(ret, err);
    if (r == 0 && module)
        r = add_module(ret, module, err);
#ifdef PREHEAT_CUDA_RUNTIME
    if (r == 0)
        r = version_lock_add(ret, "runtime", "cuda", PREHEAT_CUDA_RUNTIME, err);
    if (r == 0)
        r = version_lock_add(ret, "driver", "nvidia", PREHEAT_CUDA_DRIVER, err);
    if (r == 0)
        r = version_lock_add(ret, "cublaslt", "libcublasLt.so", PREHEAT_CUDA_CUBLASLT, err);
#endif
    return r;
}

int versions_check(const Config *config, Err *err) {
    _cleanup_free_ char *text = NULL;
    const char *path = config->daemon.version_lock;
    VersionLock lock, found;
    size_t n;
    int r = io_read_file(AT_FDCWD, path, LOCK_MAX_BYTES, &text, &n, err);
    if (r < 0)
        return r;
    r = version_lock_parse(text, &lock, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", path);
    r = versions_found(config->backend.module, &found, err);
    if (r < 0)
        return r;
    Buf differences = {0};
    size_t n_different = version_lock_compare(&lock, &found, &differences);
    if (n_different > 0)
        r = err_set(err, -EPROTO, "%zu of %zu versions are not those of '%s': %s", n_different,
                lock.n, path, buf_failed(&differences) ? "no memory to tell" : differences.data);
    buf_done(&differences);
    return r;
}

static int print(const VersionLock *versions, int r, Err *err) {
    Buf text = {0};
    if (r == 0)
        version_lock_print(versions, &text);
    if (r == 0 && buf_failed(&text))
        r = err_set(err, -ENOMEM, "no memory to print versions");
    if (r < 0)
        (void)fprintf(stderr, "preheatd: %s\n", err_text(err));
    else
        (void)fputs(text.data, stdout);
    buf_done(&text);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int versions_print(const char *config_path) {
    VersionLock versions;
    _cleanup_(config_freep) Config *config = NULL;
    Err err = {0};
    int r = config_load(config_path, &config, &err);
    if (r == 0)
        r = versions_found(config->backend.module, &versions, &err);
    return print(&versions, r, &err);
}

int versions_print_lock(const char *module) {
    VersionLock versions;
    Err err = {0};
    int r = versions_lock(module, &versions, &err);
    return print(&versions, r, &err);
}
