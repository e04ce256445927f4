#include "test.h"

#include "backend/cpu/module.h"
#include "backend/ops.h"
#include "backend/stream.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

enum { UNIT = 256 }; /* every temporary begins on a multiple of this */

static Backend *backend;

static int setup(void **state) {
    return backend_open(&backend_cpu, &(BackendOptions){.n_threads = 2}, &backend, NULL);
}

static int teardown(void **state) {
    return backend_free(backend) != NULL;
}

static Stream *new_stream(size_t bytes) {
    Stream *s = NULL;
    Err err = {0};
    if (stream_new(backend, bytes, &s, &err) < 0)
        fail_msg("%s", err_text(&err));
    return s;
}

/* The same calls for planning and for real. */
static void some_work(Stream *s) {
    size_t mark = stream_mark(s);
    View a = stream_temp(s, DTYPE_F32, 3, 5);
    op_fill(s, a, 1);
    View b = stream_temp_top(s, DTYPE_F32, 100, 100);
    op_fill(s, b, 2);
    View c = stream_temp(s, DTYPE_U8, 1);
    assert_ptr_equal(c.data, (char *)a.data + UNIT);
    stream_release(s, mark);
    View d = stream_temp(s, DTYPE_F32, 64);
    assert_ptr_equal(d.data, a.data);
    stream_release(s, mark);
    stream_release_top(s, 0);
}

static void plan_is_what_the_run_needs(void **state) {
    Stream *plan = NULL;
    assert_int_equal(stream_new_planning(backend, &plan, NULL), 0);
    assert_true(stream_is_planning(plan));
    some_work(plan);
    assert_int_equal(stream_finish(plan, NULL), 0);
    size_t needed = stream_peak(plan);
    assert_int_equal(needed, UNIT + 40192 + UNIT); /* 100 * 100 * 4 rounded up to 256 */
    assert_null(stream_free(plan));

    Stream *s = new_stream(needed);
    some_work(s);
    assert_int_equal(stream_finish(s, NULL), 0);
    assert_int_equal(stream_peak(s), needed);
    (void)stream_free(s);

    s = new_stream(needed - 1);
    (void)stream_temp(s, DTYPE_F32, 3, 5);
    (void)stream_temp_top(s, DTYPE_F32, 100, 100);
    (void)stream_temp(s, DTYPE_U8, 1);
    Err err = {0};
    assert_int_equal(stream_finish(s, &err), -ENOMEM);
    assert_non_null(strstr(err_text(&err), "is too small"));
    (void)stream_free(s);
}

static void first_failure_is_kept_and_told_once(void **state) {
    Stream *s = new_stream(4096);
    View a = stream_temp(s, DTYPE_F32, 4);
    op_fill(s, a, 3);
    stream_fail(s, -EDOM, "first");
    stream_fail(s, -EIO, "second");
    op_fill(s, a, 4); /* must do nothing */
    Err err = {0};
    assert_int_equal(stream_finish(s, &err), -EDOM);
    assert_string_equal(err_text(&err), "first");
    float got[4];
    stream_download(s, view_of(got, DTYPE_F32, 4), a);
    assert_int_equal(stream_finish(s, NULL), 0);
    assert_true(got[0] == 3 && got[3] == 3);
    (void)stream_free(s);
}

/* What was given before stays done, what comes after is not begun. */
static void a_stream_that_is_stopped_takes_no_more(void **state) {
    atomic_bool stop = false;
    Stream *s = new_stream(4096);
    View a = stream_temp(s, DTYPE_F32, 4);
    stream_stop_on(s, &stop);
    op_fill(s, a, 3);
    stop = true;
    op_fill(s, a, 4);
    stop = false; /* too late to go on: the ops between are missing */
    op_fill(s, a, 5);
    Err err = {0};
    assert_int_equal(stream_finish(s, &err), -ECANCELED);
    assert_string_equal(err_text(&err), "the work was cancelled");
    float got[4];
    stream_download(s, view_of(got, DTYPE_F32, 4), a);
    assert_int_equal(stream_finish(s, NULL), 0);
    assert_true(got[0] == 3 && got[3] == 3);

    stop = true;
    stream_stop_on(s, NULL);
    op_fill(s, a, 6);
    assert_int_equal(stream_finish(s, NULL), 0);
    (void)stream_free(s);
}

static void bytes_come_back_as_they_went(void **state) {
    float x[12], y[12] = {0};
    for (int i = 0; i < 12; i++)
        x[i] = (float)i;
    Stream *s = new_stream(4096);
    View device = stream_temp(s, DTYPE_F32, 3, 4);
    stream_upload(s, device, view_of(x, DTYPE_F32, 3, 4));
    x[0] = 99; /* may be reused at once */
    stream_download(s, view_of(y, DTYPE_F32, 3, 4), device);
    assert_int_equal(stream_finish(s, NULL), 0);
    for (int i = 0; i < 12; i++)
        assert_true(y[i] == (float)i);
    (void)stream_free(s);
}

static void events_and_memory_are_freed(void **state) {
    Event *e = NULL;
    Stream *s = new_stream(0), *t = new_stream(0);
    assert_int_equal(event_new(backend, &e, NULL), 0);
    stream_record(s, e);
    stream_wait(t, e);
    assert_int_equal(stream_finish(t, NULL), 0);
    assert_null(event_free(e));
    assert_null(event_free(NULL));
    (void)stream_free(s);
    (void)stream_free(t);
    assert_null(stream_free(NULL));

    Memory *m = NULL;
    assert_int_equal(memory_new(backend, 1000, &m, NULL), 0);
    assert_int_equal((uintptr_t)memory_data(m) % UNIT, 0);
    assert_null(memory_free(m));
}

static void modules_that_are_none_are_refused(void **state) {
    const BackendModule *m = NULL;
    Err err = {0};
    assert_int_equal(backend_load("/nonexistent.so", &m, &err), -ENOENT);
    assert_non_null(strstr(err_text(&err), "/nonexistent.so"));
    err_clear(&err);
    assert_true(backend_load("/etc/passwd", &m, &err) < 0);
    assert_non_null(strstr(err_text(&err), "/etc/passwd"));
    assert_null(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(plan_is_what_the_run_needs),
            cmocka_unit_test(first_failure_is_kept_and_told_once),
            cmocka_unit_test(a_stream_that_is_stopped_takes_no_more),
            cmocka_unit_test(bytes_come_back_as_they_went),
            cmocka_unit_test(events_and_memory_are_freed),
            cmocka_unit_test(modules_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
