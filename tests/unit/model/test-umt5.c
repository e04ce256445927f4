#include "test.h"

#include "backend/cpu/module.h"
#include "base/macro.h"
#include "model/umt5.h"
#include "tiny.h"

#include <errno.h>

/* 32 buckets up to distance 128: the first distance of each bucket of a half. */
static void buckets(void **state) {
    static const T5Dims d = {.n_buckets = 32, .max_distance = 128};
    static const int64_t first[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91};
    for (int32_t b = 0; b < 16; b++) {
        int64_t end = b < 15 ? first[b + 1] : TEXT_ROWS;
        for (int64_t n = first[b]; n < end; n++) {
            assert_int_equal(umt5_bucket(&d, -n), b);
            if (n > 0)
                assert_int_equal(umt5_bucket(&d, n), 16 + b);
        }
    }
}

typedef struct Fixture {
    Tiny tiny;
    ModelDims dims;
    Backend *backend;
    Stream *stream;
    Umt5 *umt5;
} Fixture;

static void open_fixture(Fixture *f) {
    *f = (Fixture){0};
    tiny_open(&f->tiny, NULL);
    assert_int_equal(dims_read(f->tiny.checkpoint, &f->dims, NULL), 0);
    assert_int_equal(
            backend_open(&backend_cpu, &(BackendOptions){.n_threads = 1}, &f->backend, NULL), 0);
    assert_int_equal(stream_new(f->backend, 8 << 20, &f->stream, NULL), 0);
    assert_int_equal(umt5_new(f->tiny.checkpoint, &f->dims.t5, &f->umt5, NULL), 0);
}

static void close_fixture(Fixture *f) {
    umt5_free(f->umt5);
    stream_free(f->stream);
    backend_free(f->backend);
    tiny_close(&f->tiny);
}

static int encode(Fixture *f, const int32_t *ids, int64_t n, float *rows, Err *err) {
    size_t mark = stream_mark(f->stream);
    View y = stream_temp(f->stream, DTYPE_F32, n, f->dims.t5.dim);
    umt5_encode(f->stream, f->umt5, y, ids, NULL);
    stream_download(f->stream, view_of(rows, DTYPE_F32, n, f->dims.t5.dim), y);
    stream_release(f->stream, mark);
    return stream_finish(f->stream, err);
}

static void needs_weights_and_known_ids(void **state) {
    Fixture f;
    float rows[64];
    Err err = {0};
    open_fixture(&f);
    assert_int_equal(encode(&f, (const int32_t[]){1}, 1, rows, &err), -ENODATA);
    assert_string_equal(err_text(&err), "weights 'embedding' of text_encoder are not loaded");
    err_clear(&err);
    assert_int_equal(weights_load(umt5_weights(f.umt5), f.stream, 0, NULL), 0);
    assert_int_equal(encode(&f, (const int32_t[]){1024}, 1, rows, &err), -EINVAL);
    assert_string_equal(err_text(&err), "token 0 has id 1024, the text encoder has 1024 rows");
    assert_int_equal(encode(&f, (const int32_t[]){-1}, 1, rows, NULL), -EINVAL);
    assert_int_equal(encode(&f, (const int32_t[]){1023}, 1, rows, NULL), 0);
    close_fixture(&f);
}

/* The longest prompt runs, in the workspace that planning found; a plan needs no weights. */
static void longest_prompt(void **state) {
    Fixture f;
    Stream *plan;
    static int32_t ids[TEXT_ROWS];
    static float rows[TEXT_ROWS * 64];
    open_fixture(&f);
    for (int32_t i = 0; i < TEXT_ROWS; i++)
        ids[i] = i + 1;
    assert_int_equal(stream_new_planning(f.backend, &plan, NULL), 0);
    View y = stream_temp(plan, DTYPE_F32, TEXT_ROWS, 64);
    umt5_encode(plan, f.umt5, y, ids, NULL);
    assert_int_equal(stream_finish(plan, NULL), 0);
    assert_int_equal(weights_load(umt5_weights(f.umt5), f.stream, 0, NULL), 0);
    assert_int_equal(encode(&f, ids, TEXT_ROWS, rows, NULL), 0);
    assert_int_equal(stream_peak(plan), stream_peak(f.stream));
    stream_free(plan);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(buckets),
            cmocka_unit_test(needs_weights_and_known_ids),
            cmocka_unit_test(longest_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
