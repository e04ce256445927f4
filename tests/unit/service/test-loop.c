#include "test.h"

#include "base/clock.h"
#include "service/idle.h"
#include "service/loop.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

typedef struct Seen {
    Loop *loop;
    LoopSource *source;
    Idle *idle;
    uint64_t usec; /* when it was called */
    uint32_t events;
    int n;
} Seen;

static void note_and_exit(void *context, uint32_t events) {
    Seen *s = context;
    s->usec = clock_usec();
    s->events = events;
    s->n++;
    loop_exit(s->loop, 7);
}

static int run(Seen *s) {
    Err err = {0};
    int r = loop_run(s->loop, &err);
    if (r < 0)
        fail_msg("%s", err_text(&err));
    (void)loop_source_free(s->source);
    (void)idle_free(s->idle);
    (void)loop_free(s->loop);
    return r;
}

static void timers_fire_once_in_time(void **state) {
    Seen s = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    assert_int_equal(loop_add_timer(s.loop, note_and_exit, &s, &s.source, NULL), 0);
    uint64_t start = clock_usec();
    loop_timer_set(s.source, 20 * USEC_PER_MSEC);
    assert_int_equal(run(&s), 7);
    assert_int_equal(s.n, 1);
    assert_true(s.usec - start >= 20 * USEC_PER_MSEC);
}

static void descriptors_tell_their_events(void **state) {
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    Seen s = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    assert_int_equal(loop_add_fd(s.loop, fds[0], EPOLLIN, note_and_exit, &s, &s.source, NULL), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(run(&s), 7);
    assert_int_equal(s.events, EPOLLIN);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void closed_descriptor_is_refused(void **state) {
    Seen s = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    Err err = {0};
    assert_true(loop_add_fd(s.loop, 1000, EPOLLIN, note_and_exit, &s, &s.source, &err) < 0);
    assert_string_equal(err_text(&err), "cannot watch a descriptor: Bad file descriptor");
    (void)loop_free(s.loop);
}

static void signals_arrive_as_events(void **state) {
    Seen s = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    assert_int_equal(loop_add_signal(s.loop, SIGTERM, note_and_exit, &s, &s.source, NULL), 0);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(run(&s), 7);
    assert_int_equal(s.events, SIGTERM);
}

static void *wake(void *source) {
    loop_wake(source);
    loop_wake(source);
    return NULL;
}

static void other_threads_wake_the_loop(void **state) {
    Seen s = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    assert_int_equal(loop_add_wake(s.loop, note_and_exit, &s, &s.source, NULL), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake, s.source), 0);
    assert_int_equal(loop_run(s.loop, NULL), 7);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)loop_source_free(s.source);
    (void)loop_free(s.loop);
    assert_int_equal(s.n, 1);
}

static void free_own_source(void *context, uint32_t events) {
    Seen *s = context;
    s->source = loop_source_free(s->source);
    loop_exit(s->loop, 0);
}

static void a_source_may_free_itself(void **state) {
    Seen s = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    assert_int_equal(loop_add_timer(s.loop, free_own_source, &s, &s.source, NULL), 0);
    loop_timer_set(s.source, 0);
    assert_int_equal(run(&s), 0);
}

static void release_work(void *context, uint32_t events) {
    Seen *s = context;
    s->n += 100;
    idle_release(s->idle);
}

static void idle_time_begins_after_the_last_holder(void **state) {
    Seen s = {0};
    LoopSource *work = NULL;
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    assert_int_equal(idle_new(s.loop, 20 * USEC_PER_MSEC, note_and_exit, &s, &s.idle, NULL), 0);
    idle_hold(s.idle);
    idle_touch(s.idle); /* touching while held must not arm it */
    assert_int_equal(loop_add_timer(s.loop, release_work, &s, &work, NULL), 0);
    uint64_t start = clock_usec();
    loop_timer_set(work, 40 * USEC_PER_MSEC);
    assert_int_equal(loop_run(s.loop, NULL), 7);
    assert_int_equal(s.n, 101);
    assert_true(s.usec - start >= 60 * USEC_PER_MSEC);
    (void)loop_source_free(work);
    (void)idle_free(s.idle);
    (void)loop_free(s.loop);
}

static void idle_zero_never_fires(void **state) {
    Seen s = {0}, timer = {0};
    assert_int_equal(loop_new(&s.loop, NULL), 0);
    timer.loop = s.loop;
    assert_int_equal(idle_new(s.loop, 0, note_and_exit, &s, &s.idle, NULL), 0);
    assert_int_equal(loop_add_timer(s.loop, note_and_exit, &timer, &s.source, NULL), 0);
    loop_timer_set(s.source, 5 * USEC_PER_MSEC);
    assert_int_equal(run(&s), 7);
    assert_int_equal(s.n, 0);
    assert_int_equal(timer.n, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(timers_fire_once_in_time),
            cmocka_unit_test(descriptors_tell_their_events),
            cmocka_unit_test(closed_descriptor_is_refused),
            cmocka_unit_test(signals_arrive_as_events),
            cmocka_unit_test(other_threads_wake_the_loop),
            cmocka_unit_test(a_source_may_free_itself),
            cmocka_unit_test(idle_time_begins_after_the_last_holder),
            cmocka_unit_test(idle_zero_never_fires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
