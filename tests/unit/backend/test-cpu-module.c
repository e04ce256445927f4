#include "test.h"

#include "backend/cpu/module.h"
#include "backend/ops.h"
#include "base/macro.h"
#include "base/size.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* AddressSanitizer ends the process at an absurd size unless told otherwise. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

static Backend *open_with(BackendOptions options) {
    Backend *b = NULL;
    Err err = {0};
    if (backend_open(&backend_cpu, &options, &b, &err) < 0)
        fail_msg("%s", err_text(&err));
    return b;
}

static void says_what_it_is(void **state) {
    Backend *b = open_with((BackendOptions){.n_threads = 3, .isa = ISA_PORTABLE});
    const BackendInfo *info = backend_info(b);
    assert_string_equal(info->name, "cpu");
    assert_string_equal(info->device, "3 threads, portable C");
    assert_int_equal(info->activation, DTYPE_F32);
    assert_int_equal(info->memory_total, 0);
    backend_free(b);
    b = open_with((BackendOptions){.n_threads = 1, .isa = ISA_PORTABLE});
    assert_string_equal(backend_info(b)->device, "1 thread, portable C");
    backend_free(b);
}

static void unknown_instruction_set_is_refused(void **state) {
    Backend *b = NULL;
    Err err = {0};
    BackendOptions options = {.n_threads = 1, .isa = (Isa)99};
    assert_int_equal(backend_open(&backend_cpu, &options, &b, &err), -ENOTSUP);
    assert_string_equal(err_text(&err), "this CPU, or this build, has not the instruction set 99");
    assert_null(b);
}

static void memory_keeps_to_its_limit(void **state) {
    Backend *b = open_with((BackendOptions){.n_threads = 1, .memory_limit = 10000});
    Memory *first = NULL, *second = NULL;
    Err err = {0};
    assert_int_equal(backend_memory_free(b), 10000);
    assert_int_equal(memory_new(b, 6000, &first, &err), 0);
    assert_int_equal((uintptr_t)memory_data(first) % 256, 0);
    assert_int_equal(backend_memory_free(b), 4000);

    assert_int_equal(memory_new(b, 4001, &second, &err), -ENOMEM);
    assert_string_equal(err_text(&err), "4001 bytes of memory wanted, 6000 of 10000 in use");
    assert_null(second);
    assert_int_equal(memory_new(b, 4000, &second, NULL), 0);
    memory_free(first);
    assert_int_equal(backend_memory_free(b), 6000);
    memory_free(second);
    backend_free(b);
}

static void memory_without_limit_is_the_hosts(void **state) {
    Backend *b = open_with((BackendOptions){.n_threads = 1});
    uint64_t available = backend_memory_free(b);
    assert_true(available > MIB && available < (uint64_t)1 << 50);
    Memory *m = NULL;
    Err err = {0};
    assert_int_equal(memory_new(b, (size_t)1 << 60, &m, &err), -ENOMEM);
    assert_non_null(strstr(err_text(&err), "1152921504606846976 bytes"));
    assert_int_equal(memory_new(b, 0, &m, NULL), 0);
    memory_free(m);
    backend_free(b);
}

static Backend *shared;
static _Atomic int n_holders;
static _Atomic bool went_over;

static void *take_and_give_back(void *unused) {
    for (int i = 0; i < 2000; i++) {
        Memory *m;
        if (memory_new(shared, 6000, &m, NULL) < 0)
            continue;
        if (atomic_fetch_add(&n_holders, 1) > 0 || backend_memory_free(shared) > 10000)
            went_over = true;
        (void)atomic_fetch_sub(&n_holders, 1);
        memory_free(m);
    }
    return NULL;
}

/* The loader and the worker take memory at the same time. */
static void two_threads_share_one_limit(void **state) {
    /* A file takes long enough to make for the other thread to come in between. */
    shared = open_with((BackendOptions){.n_threads = 1, .memory_limit = 10000, .exportable = true});
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, take_and_give_back, NULL), 0);
    (void)take_and_give_back(NULL);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_false(went_over);
    assert_int_equal(backend_memory_free(shared), 10000);
    backend_free(shared);
}

/* Each call wants more scratch than the one before; one query of one key gives the value. */
static void *attend_wider_and_wider(void *context) {
    bool *right = context;
    Stream *s = NULL;
    assert_int_equal(stream_new(shared, MIB, &s, NULL), 0);
    for (int64_t dim = 4096; dim < 4096 + 16 * 200; dim += 16) {
        size_t mark = stream_mark(s);
        View q = stream_temp(s, DTYPE_F32, 1, dim), v = stream_temp(s, DTYPE_F32, 1, dim),
             o = stream_temp(s, DTYPE_F32, 1, dim);
        op_fill(s, q, 0.5f);
        op_fill(s, v, (float)dim);
        op_attention(s, &(AttentionArgs){.o = o, .q = q, .k = q, .v = v, .n_heads = 1, .scale = 1});
        assert_int_equal(stream_finish(s, NULL), 0);
        for (int64_t i = 0; i < dim; i++)
            *right &= ((const float *)o.data)[i] == (float)dim;
        stream_release(s, mark);
    }
    stream_free(s);
    return NULL;
}

static void *copy_to_bf16(void *context) {
    enum { N = 3 * 4096 + 4095 };
    bool *right = context;
    Stream *s = NULL;
    assert_int_equal(stream_new(shared, MIB, &s, NULL), 0);
    View x = stream_temp(s, DTYPE_F32, N), y = stream_temp(s, DTYPE_BF16, N);
    op_fill(s, x, 1);
    for (int k = 0; k < 2000; k++) {
        op_copy(s, y, x);
        for (int64_t i = 0; i < N; i++)
            *right &= ((const uint16_t *)y.data)[i] == 0x3f80;
    }
    stream_free(s);
    return NULL;
}

/* Streams are used by one thread each; the backend is used by both. */
static void two_threads_compute_at_once(void **state) {
    bool right[2] = {true, true};
    shared = open_with((BackendOptions){.n_threads = 2});
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, attend_wider_and_wider, &right[0]), 0);
    (void)copy_to_bf16(&right[1]);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_true(right[0] && right[1]);
    backend_free(shared);
}

static void pinning_is_accepted(void **state) {
    static char page[4096];
    Backend *b = open_with((BackendOptions){.n_threads = 1});
    assert_int_equal(backend_pin(b, page, sizeof(page), NULL), 0);
    backend_unpin(b, page, sizeof(page));
    backend_free(b);
}

/* What stays in the host's bytes, and what does not. */
static void weights_are_borrowed_where_they_can_be(void **state) {
    static _Alignas(64) float f32[64];
    static _Alignas(64) uint16_t bf16[64];
    char *odd = (char *)f32 + 1;
    const struct {
        WeightKind kind;
        View host;
        size_t bytes;
    } cases[] = {
            {WEIGHT_MATRIX, view_of(bf16, DTYPE_BF16, 8, 8), 0},
            {WEIGHT_TABLE, view_of(bf16, DTYPE_F16, 8, 8), 0},
            {WEIGHT_VECTOR, view_of(f32, DTYPE_F32, 10), 0},
            {WEIGHT_VECTOR, view_of(odd, DTYPE_F32, 10), 40},
            {WEIGHT_VECTOR, view_of(bf16, DTYPE_BF16, 10), 40},
            /* Output channels in blocks of 16: 3 take one, 17 two. */
            {WEIGHT_CONV, view_of(bf16, DTYPE_BF16, 3, 2, 3, 3), 16 * 2 * 9 * 4},
            {WEIGHT_CONV, view_of(bf16, DTYPE_BF16, 17, 1, 1, 1, 3), 32 * 3 * 4},
    };
    Backend *b = open_with((BackendOptions){.n_threads = 2});
    Stream *s = NULL;
    assert_int_equal(stream_new(b, 0, &s, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Memory *m = NULL;
        assert_int_equal(weight_bytes(b, cases[i].kind, cases[i].host), cases[i].bytes);
        assert_int_equal(memory_new(b, cases[i].bytes, &m, NULL), 0);
        weight_import(s, &(WeightImport){cases[i].kind, cases[i].host, memory_data(m)}, 1);
        View w = weight_view(b, cases[i].kind, cases[i].host, memory_data(m));
        assert_true(view_same_shape(w, cases[i].host));
        assert_ptr_equal(w.data, cases[i].bytes ? memory_data(m) : cases[i].host.data);
        assert_int_equal(w.dtype, cases[i].bytes ? DTYPE_F32 : cases[i].host.dtype);
        memory_free(m);
    }
    stream_free(s);
    backend_free(b);
}

static void streams_and_events_cost_nothing(void **state) {
    Backend *b = open_with((BackendOptions){.n_threads = 1});
    Stream *s = NULL, *other = NULL;
    Event *e = NULL;
    float from[5] = {1, 2, 3, 4, 5}, to[5] = {0};
    assert_int_equal(stream_new(b, 4096, &s, NULL), 0);
    assert_int_equal(stream_new(b, 0, &other, NULL), 0);
    assert_int_equal(event_new(b, &e, NULL), 0);
    View x = stream_temp(s, DTYPE_F32, 5);
    stream_upload(s, x, view_of(from, DTYPE_F32, 5));
    stream_record(s, e);
    stream_wait(other, e);
    stream_download(other, view_of(to, DTYPE_F32, 5), x);
    assert_int_equal(stream_finish(other, NULL), 0);
    assert_memory_equal(to, from, sizeof(to));
    event_free(e);
    stream_free(other);
    stream_free(s);
    backend_free(b);
}

static void exported_memory_outlives_its_backend(void **state) {
    enum { BYTES = 5000 };
    Backend *b = open_with((BackendOptions){.n_threads = 1, .exportable = true});
    Memory *m = NULL;
    int fd = -1;
    assert_int_equal(memory_new(b, BYTES, &m, NULL), 0);
    memset(memory_data(m), 0x5a, BYTES);
    assert_int_equal(memory_export(m, &fd, NULL), 0);
    memory_free(m);
    backend_free(b);

    b = open_with((BackendOptions){.n_threads = 1, .memory_limit = BYTES});
    Err err = {0};
    assert_int_equal(memory_import(b, fd, 2 * BYTES, &m, &err), -EBADMSG);
    assert_non_null(strstr(err_text(&err), "is a file of 8192 bytes, wanted is a memory file of"));
    err_clear(&err);
    assert_int_equal(memory_import(b, fd, BYTES, &m, &err), 0);
    close(fd);
    uint8_t wanted[BYTES];
    memset(wanted, 0x5a, BYTES);
    assert_memory_equal(memory_data(m), wanted, BYTES);
    assert_int_equal(backend_memory_free(b), 0);
    memory_free(m);
    assert_int_equal(backend_memory_free(b), BYTES);
    backend_free(b);
}

static void other_descriptors_are_no_memory(void **state) {
    Backend *b = open_with((BackendOptions){.n_threads = 1});
    Memory *m = NULL;
    int pipes[2], fd;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(memory_import(b, pipes[0], 4096, &m, NULL), -EBADMSG);
    assert_int_equal(memory_import(b, -1, 4096, &m, NULL), -EBADF);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(memory_new(b, 4096, &m, NULL), 0);
    assert_int_equal(memory_export(m, &fd, NULL), -ENOTSUP);
    memory_free(m);
    backend_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(says_what_it_is),
            cmocka_unit_test(unknown_instruction_set_is_refused),
            cmocka_unit_test(memory_keeps_to_its_limit),
            cmocka_unit_test(memory_without_limit_is_the_hosts),
            cmocka_unit_test(two_threads_share_one_limit),
            cmocka_unit_test(two_threads_compute_at_once),
            cmocka_unit_test(pinning_is_accepted),
            cmocka_unit_test(weights_are_borrowed_where_they_can_be),
            cmocka_unit_test(exported_memory_outlives_its_backend),
            cmocka_unit_test(other_descriptors_are_no_memory),
            cmocka_unit_test(streams_and_events_cost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
