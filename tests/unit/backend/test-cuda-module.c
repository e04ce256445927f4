#include "test.h"

#include "backend/stream.h"
#include "base/cleanup.h"
#include "base/macro.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The module's path is the only argument. What it computes is tests/kernels' to judge, on a machine
 * with a card. */
static const char *path;

static void loads_without_a_driver(void **state) {
    const BackendModule *m = NULL;
    Err err = {0};
    assert_int_equal(backend_load(path, &m, &err), 0);
    assert_non_null(m);
}

/* What the module links in must not meet the program's own. */
static void exports_one_symbol(void **state) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    assert_non_null(dlsym(library, "preheat_backend"));
    static const char *const inner[] = {"cuda_linear", "stream_fail", "err_set", "attention_mma",
            "cudaMalloc", "cudaLaunchKernel"};
    for (size_t i = 0; i < ARRAY_LEN(inner); i++)
        assert_null(dlsym(library, inner[i]));
    (void)dlclose(library);
}

static void open_says_what_is_missing(void **state) {
    const BackendModule *m;
    Backend *b = NULL;
    Err err = {0};
    assert_int_equal(backend_load(path, &m, &err), 0);
    int r = backend_open(m, &(BackendOptions){0}, &b, &err);
    if (r == 0) { /* this machine has a card */
        assert_int_equal(backend_info(b)->activation, DTYPE_BF16);
        assert_null(backend_free(b));
        err_clear(&err);
        assert_int_equal(backend_open(m, &(BackendOptions){.device = 1000}, &b, &err), -ENODEV);
    } else {
        assert_int_equal(r, -ENODEV);
    }
    assert_non_null(strstr(err_text(&err), "CUDA device"));
}

static void refuses_the_instruction_sets_of_cpus(void **state) {
    const BackendModule *m;
    Backend *b;
    Err err = {0};
    assert_int_equal(backend_load(path, &m, &err), 0);
    assert_int_equal(backend_open(m, &(BackendOptions){.isa = ISA_AVX2}, &b, &err), -ENOTSUP);
}

static void exported_memory_outlives_its_owner(void **state) {
    enum { BYTES = 5000000, MIB = 1 << 20 };
    static uint8_t wanted[BYTES], found[BYTES];
    const BackendModule *m;
    Backend *b = NULL;
    Stream *s = NULL;
    Memory *memory = NULL;
    _cleanup_close_ int fd = -1;
    int pipes[2];
    assert_int_equal(backend_load(path, &m, NULL), 0);
    if (backend_open(m, &(BackendOptions){0}, &b, NULL) < 0)
        skip(); /* no card */
    for (size_t i = 0; i < BYTES; i++)
        wanted[i] = (uint8_t)(i * 31 + i / 251);
    View bytes = view_of(wanted, DTYPE_U8, BYTES);
    assert_int_equal(stream_new(b, 0, &s, NULL), 0);
    assert_int_equal(memory_new(b, BYTES, &memory, NULL), 0);
    stream_upload(s, view_of(memory_data(memory), DTYPE_U8, BYTES), bytes);
    assert_int_equal(stream_finish(s, NULL), 0);
    assert_int_equal(memory_export(memory, &fd, NULL), 0);
    memory_free(memory);
    stream_free(s);
    backend_free(b);

    assert_int_equal(backend_open(m, &(BackendOptions){0}, &b, NULL), 0);
    assert_int_equal(stream_new(b, 0, &s, NULL), 0);
    assert_true(memory_import(b, fd, BYTES + 64 * MIB, &memory, NULL) < 0);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(memory_import(b, pipes[0], BYTES, &memory, NULL), -EBADMSG);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(memory_import(b, fd, BYTES, &memory, NULL), 0);
    stream_download(
            s, view_of(found, DTYPE_U8, BYTES), view_of(memory_data(memory), DTYPE_U8, BYTES));
    assert_int_equal(stream_finish(s, NULL), 0);
    assert_memory_equal(found, wanted, BYTES);
    memory_free(memory);
    stream_free(s);
    backend_free(b);
}

int main(int argc, char *argv[]) {
    if (argc != 2)
        return 2;
    path = argv[1];
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(loads_without_a_driver),
            cmocka_unit_test(exports_one_symbol),
            cmocka_unit_test(open_says_what_is_missing),
            cmocka_unit_test(exported_memory_outlives_its_owner),
            cmocka_unit_test(refuses_the_instruction_sets_of_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
