#include "test.h"

#include "backend/backend.h"
#include "base/macro.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

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

int main(int argc, char *argv[]) {
    if (argc != 2)
        return 2;
    path = argv[1];
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(loads_without_a_driver),
            cmocka_unit_test(exports_one_symbol),
            cmocka_unit_test(open_says_what_is_missing),
            cmocka_unit_test(refuses_the_instruction_sets_of_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
