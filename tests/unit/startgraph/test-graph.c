#include "test.h"

#include "base/clock.h"
#include "base/str.h"
#include "startgraph/graph.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* What the steps of a case share: a trace of what happened, one letter an event, in order. */
typedef struct World {
    pthread_mutex_t lock;
    char trace[64];
    atomic_int calls, changes;
    sem_t go;
} World;

#define HOUR (3600 * USEC_PER_SEC)

static void note(World *w, char letter) {
    (void)pthread_mutex_lock(&w->lock);
    size_t n = strlen(w->trace);
    assert_true(n + 1 < sizeof(w->trace));
    w->trace[n] = letter;
    (void)pthread_mutex_unlock(&w->lock);
}

#define STEP_FUNCS(letter)                                                                         \
    static int do_##letter(void *context, const StepCall *call, Err *err) {                        \
        note(context, #letter[0]);                                                                 \
        return 0;                                                                                  \
    }                                                                                              \
    static void undo_##letter(void *context) {                                                     \
        note(context, (char)(#letter[0] - 32));                                                    \
    }
STEP_FUNCS(a)
STEP_FUNCS(b)
STEP_FUNCS(c)

static int do_fail(void *context, const StepCall *call, Err *err) {
    World *w = context;
    atomic_fetch_add(&w->calls, 1);
    note(w, 'x');
    return err_set(err, -EIO, "broken on purpose");
}

static int do_fail_twice(void *context, const StepCall *call, Err *err) {
    World *w = context;
    if (atomic_fetch_add(&w->calls, 1) < 2)
        return err_set(err, -EAGAIN, "not yet");
    return 0;
}

static int do_wait_until_late(void *context, const StepCall *call, Err *err) {
    World *w = context;
    (void)sem_wait(&w->go);
    note(w, step_is_late(call) ? 'l' : 'p');
    return 0;
}

static int do_keep_when_told(void *context, const StepCall *call, Err *err) {
    World *w = context;
    (void)sem_wait(&w->go);
    bool kept = step_keep(call);
    note(w, kept ? 'k' : 'l');
    return kept ? 0 : err_set(err, -ECANCELED, "too late");
}

static int do_keep_at_once(void *context, const StepCall *call, Err *err) {
    World *w = context;
    bool kept = step_keep(call);
    note(w, kept ? 'k' : 'l');
    atomic_fetch_add(&w->calls, 1);
    (void)sem_wait(&w->go);
    return kept ? 0 : -ECANCELED;
}

static int do_keep_b(void *context, const StepCall *call, Err *err) {
    if (!step_keep(call))
        return -ECANCELED;
    note(context, 'b');
    return 0;
}

static void undo_kept(void *context) {
    note(context, 'K');
}

static void count_change(void *context) {
    World *w = context;
    atomic_fetch_add(&w->changes, 1);
}

static void world_init(World *w) {
    memset(w, 0, sizeof(*w));
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)sem_init(&w->go, 0, 0);
}

static Graph *start(World *w, const Step *steps, size_t n) {
    world_init(w);
    Err err = {0};
    Graph *g;
    int r = graph_start(&(GraphOptions){.steps = steps,
                                .n_steps = n,
                                .context = w,
                                .on_change = count_change,
                                .change_context = w},
            &g, &err);
    if (r < 0)
        fail_msg("%s", err_text(&err));
    return g;
}

#define START(w, steps) start((w), (steps), sizeof(steps) / sizeof((steps)[0]))

static void steps_run_after_what_they_need(void **state) {
    const Step steps[] = {
            {.name = "c", .needs = {"a", "b"}, .run = do_c},
            {.name = "b", .needs = {"a"}, .run = do_b},
            {.name = "a", .run = do_a},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    assert_int_equal(s, GRAPH_DONE);
    assert_string_equal(w.trace, "abc");

    StepReport reports[3];
    graph_report(g, reports);
    assert_int_equal(reports[0].outcome, STEP_DONE);
    assert_int_equal(reports[0].last_need, 1);
    assert_int_equal(reports[1].last_need, 2);
    assert_int_equal(reports[2].last_need, -1);
    assert_true(reports[0].start_usec >= reports[1].end_usec);
    assert_null(graph_free(g));
    assert_int_equal(w.changes, 3);
}

static void independent_steps_run_at_once(void **state) {
    const Step steps[] = {
            {.name = "waits", .run = do_wait_until_late},
            {.name = "a", .run = do_a},
    };
    World w;
    Graph *g = START(&w, steps);
    while (atomic_load(&w.changes) == 0) /* "a" ends although "waits" has not */
        (void)sched_yield();
    (void)sem_post(&w.go);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    assert_string_equal(w.trace, "ap");
    graph_free(g);
}

static void critical_failure_rolls_back_in_reverse(void **state) {
    const Step steps[] = {
            {.name = "a", .run = do_a, .undo = undo_a},
            {.name = "b", .needs = {"a"}, .run = do_b, .undo = undo_b},
            {.name = "bad", .needs = {"b"}, .run = do_fail},
            {.name = "c", .needs = {"bad"}, .run = do_c, .undo = undo_c},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    Err err = {0};
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, &err), -EIO);
    assert_int_equal(s, GRAPH_ROLLED_BACK);
    assert_string_equal(err_text(&err), "step 'bad': broken on purpose");
    assert_string_equal(w.trace, "abxBA");
    StepReport reports[4];
    graph_report(g, reports);
    assert_int_equal(reports[0].outcome, STEP_UNDONE);
    assert_int_equal(reports[2].outcome, STEP_FAILED);
    assert_int_equal(reports[3].outcome, STEP_SKIPPED);
    graph_free(g);
}

static void other_failures_skip_or_go_on(void **state) {
    const Step steps[] = {
            {.name = "skips", .run = do_fail, .on_failure = STEP_SKIP_DEPENDENTS},
            {.name = "a", .needs = {"skips"}, .run = do_a, .on_failure = STEP_SKIP_DEPENDENTS},
            {.name = "goes on", .needs = {"skips"}, .run = do_fail, .on_failure = STEP_GO_ON},
            {.name = "b", .needs = {"goes on"}, .run = do_b},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    assert_int_equal(s, GRAPH_DONE);
    assert_string_equal(w.trace, "xb");
    StepReport reports[4];
    graph_report(g, reports);
    assert_int_equal(reports[1].outcome, STEP_SKIPPED);
    assert_string_equal(err_text(&reports[1].err), "it needs 'skips', which is failed");
    assert_int_equal(reports[2].outcome, STEP_SKIPPED);
    graph_free(g);
}

static void a_skipped_critical_step_is_a_failure(void **state) {
    const Step steps[] = {
            {.name = "skips", .run = do_fail, .on_failure = STEP_SKIP_DEPENDENTS},
            {.name = "a", .needs = {"skips"}, .run = do_a},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    Err err = {0};
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, &err), -ECANCELED);
    assert_string_equal(err_text(&err), "step 'a': it needs 'skips', which is failed");
    graph_free(g);
}

static void retries_and_fallback(void **state) {
    const Step steps[] = {
            {.name = "again", .run = do_fail_twice, .retries = 2, .backoff_usec = 1000},
            {.name = "other way",
                    .needs = {"again"},
                    .run = do_fail,
                    .fallback = do_b,
                    .retries = 1},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    StepReport reports[2];
    graph_report(g, reports);
    assert_int_equal(reports[0].outcome, STEP_DONE);
    assert_int_equal(reports[0].tries, 3);
    assert_string_equal(err_text(&reports[0].err), "not yet");
    assert_true(reports[0].end_usec - reports[0].start_usec >= 3000); /* 1 ms, then 2 ms */
    assert_int_equal(reports[1].outcome, STEP_FELL_BACK);
    assert_int_equal(reports[1].tries, 2);
    assert_string_equal(w.trace, "xxb");
    graph_free(g);
}

static int do_remark(void *context, const StepCall *call, Err *err) {
    note(context, step_is_last_try(call) ? 'l' : 'r');
    (void)err_set(err, -EPERM, "slower than it should be");
    return 0;
}

static int do_fail_until_last(void *context, const StepCall *call, Err *err) {
    note(context, step_is_last_try(call) ? 'l' : 'x');
    return step_is_last_try(call) ? 0 : err_set(err, -EAGAIN, "not yet");
}

static void only_the_named_failure_is_retried(void **state) {
    const Step steps[] = {
            {.name = "other",
                    .run = do_fail,
                    .retries = 3,
                    .retried = -EAGAIN,
                    .on_failure = STEP_GO_ON},
            {.name = "named",
                    .needs = {"other"},
                    .run = do_fail_until_last,
                    .retries = 2,
                    .retried = -EAGAIN},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    StepReport reports[2];
    graph_report(g, reports);
    assert_int_equal(reports[0].tries, 1);
    assert_int_equal(reports[0].outcome, STEP_FAILED);
    assert_int_equal(reports[1].tries, 3);
    assert_int_equal(reports[1].outcome, STEP_DONE);
    assert_string_equal(w.trace, "xxxl");
    graph_free(g);
}

static void a_remark_of_success_is_reported(void **state) {
    const Step steps[] = {{.name = "slow", .run = do_remark}};
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    assert_int_equal(s, GRAPH_DONE);
    StepReport report;
    graph_report(g, &report);
    assert_int_equal(report.outcome, STEP_DONE);
    assert_int_equal(report.err.code, -EPERM);
    assert_string_equal(err_text(&report.err), "slower than it should be");
    graph_free(g);
}

static void a_late_try_is_given_up_and_keeps_nothing(void **state) {
    const Step steps[] = {
            {.name = "slow",
                    .run = do_keep_when_told,
                    .undo = undo_kept,
                    .timeout_usec = 2000,
                    .on_failure = STEP_GO_ON},
            {.name = "a", .needs = {"slow"}, .run = do_a},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    assert_string_equal(w.trace, "a");
    StepReport reports[2];
    graph_report(g, reports);
    assert_int_equal(reports[0].outcome, STEP_TIMED_OUT);
    assert_string_equal(err_text(&reports[0].err), "no result within 0.002 s");
    assert_int_equal(graph_settle(g, 1000), -ETIMEDOUT);
    (void)sem_post(&w.go);
    assert_int_equal(graph_settle(g, USEC_INFINITY), 0);
    assert_string_equal(w.trace, "al");
    graph_free(g);
}

static void a_late_try_leaves_what_the_fallback_built(void **state) {
    const Step steps[] = {{.name = "slow",
            .run = do_keep_when_told,
            .fallback = do_keep_b,
            .undo = undo_b,
            .timeout_usec = 100000}};
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    StepReport report;
    graph_report(g, &report);
    assert_int_equal(report.outcome, STEP_FELL_BACK);
    (void)sem_post(&w.go);
    graph_free(g);
    assert_string_equal(w.trace, "bl");
}

static void what_a_late_try_needs_is_undone_behind_it(void **state) {
    const Step steps[] = {
            {.name = "a", .run = do_a, .undo = undo_a},
            {.name = "slow",
                    .needs = {"a"},
                    .run = do_keep_when_told,
                    .undo = undo_kept,
                    .timeout_usec = 2000},
    };
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), -ETIMEDOUT);
    assert_int_equal(s, GRAPH_ROLLED_BACK);
    assert_string_equal(w.trace, "a");
    (void)sem_post(&w.go);
    graph_free(g);
    assert_string_equal(w.trace, "alA");
}

static void a_try_that_keeps_is_waited_for(void **state) {
    const Step steps[] = {
            {.name = "a", .run = do_keep_at_once, .undo = undo_kept, .timeout_usec = 20000}};
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, 40000, &s, NULL), 0);
    if (atomic_load(&w.calls) > 0) /* else the machine was too slow to tell */
        assert_int_equal(s, GRAPH_RUNNING);
    (void)sem_post(&w.go);
    (void)graph_wait(g, USEC_INFINITY, &s, NULL);
    StepReport report;
    graph_report(g, &report);
    assert_int_equal(report.outcome, w.trace[0] == 'k' ? STEP_DONE : STEP_TIMED_OUT);
    graph_free(g);
}

static int do_until_late(void *context, const StepCall *call, Err *err) {
    note(context, 'u');
    while (!step_is_late(call))
        (void)sched_yield();
    return -ECANCELED;
}

static int do_well_when_late(void *context, const StepCall *call, Err *err) {
    while (!step_is_late(call))
        (void)sched_yield();
    return 0;
}

/* Nothing is undone, whatever was critical. What was not begun says why. */
static void a_cancelled_graph_ends(void **state) {
    const Step steps[] = {
            {.name = "a", .run = do_a, .undo = undo_a},
            {.name = "until", .needs = {"a"}, .run = do_until_late, .fallback = do_b},
            {.name = "slow", .needs = {"a"}, .run = do_wait_until_late, .timeout_usec = HOUR},
            {.name = "again", .run = do_fail, .retries = 1, .backoff_usec = HOUR},
            {.name = "c", .needs = {"until"}, .run = do_c},
            {.name = "well", .needs = {"a"}, .run = do_well_when_late},
            {.name = "d", .needs = {"well"}, .run = do_c},
    };
    World w;
    Graph *g = START(&w, steps);
    StepReport reports[7];
    do
        graph_report(g, reports);
    while (reports[1].outcome != STEP_RUNNING || reports[2].outcome != STEP_RUNNING ||
            reports[5].outcome != STEP_RUNNING || atomic_load(&w.calls) == 0);
    graph_cancel(g);
    GraphState s;
    assert_int_equal(graph_wait(g, USEC_INFINITY, &s, NULL), 0);
    assert_int_equal(s, GRAPH_DONE);
    graph_report(g, reports);
    assert_int_equal(reports[0].outcome, STEP_DONE);
    assert_int_equal(reports[1].outcome, STEP_FAILED);
    assert_string_equal(err_text(&reports[2].err), "the start was given up");
    assert_int_equal(reports[3].tries, 1);
    assert_int_equal(reports[4].outcome, STEP_SKIPPED);
    assert_string_equal(err_text(&reports[4].err), "it needs 'until', which is failed");
    assert_int_equal(reports[5].outcome, STEP_DONE);
    assert_int_equal(reports[6].outcome, STEP_SKIPPED);
    assert_int_equal(reports[6].err.code, -ECANCELED);
    assert_string_equal(err_text(&reports[6].err), "the start was given up");
    (void)sem_post(&w.go);
    graph_free(g);
    assert_null(strpbrk(w.trace, "Abc"));
}

static void waiting_has_a_timeout(void **state) {
    const Step steps[] = {{.name = "waits", .run = do_wait_until_late}};
    World w;
    Graph *g = START(&w, steps);
    GraphState s;
    assert_int_equal(graph_wait(g, 1000, &s, NULL), 0);
    assert_int_equal(s, GRAPH_RUNNING);
    (void)sem_post(&w.go);
    graph_free(g);
}

static void bad_tables_are_refused(void **state) {
    const struct {
        Step steps[3];
        size_t n;
        const char *text;
    } cases[] = {
            {{{0}}, 0, "0 steps, there must be 1 to 32"},
            {{{.name = "", .run = do_a}}, 1, "step 0 has no name"},
            {{{.name = "a", .run = do_a}, {.name = "a", .run = do_a}}, 2,
                    "two steps are named 'a'"},
            {{{.name = "a", .needs = {"z"}, .run = do_a}}, 1,
                    "step 'a' needs 'z', which is no step"},
            {{{.name = "a", .needs = {"a"}, .run = do_a}}, 1, "steps form a cycle: a -> a"},
            {{{.name = "a", .needs = {"b"}, .run = do_a},
                     {.name = "b", .needs = {"c"}, .run = do_b},
                     {.name = "c", .needs = {"b"}, .run = do_c}},
                    3, "steps form a cycle: b -> c -> b"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Err err = {0};
        Graph *g = NULL;
        int r = graph_start(
                &(GraphOptions){.steps = cases[i].steps, .n_steps = cases[i].n}, &g, &err);
        assert_int_equal(r, -EINVAL);
        assert_string_equal(err_text(&err), cases[i].text);
        assert_null(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(steps_run_after_what_they_need),
            cmocka_unit_test(independent_steps_run_at_once),
            cmocka_unit_test(critical_failure_rolls_back_in_reverse),
            cmocka_unit_test(other_failures_skip_or_go_on),
            cmocka_unit_test(a_skipped_critical_step_is_a_failure),
            cmocka_unit_test(retries_and_fallback),
            cmocka_unit_test(only_the_named_failure_is_retried),
            cmocka_unit_test(a_remark_of_success_is_reported),
            cmocka_unit_test(a_late_try_is_given_up_and_keeps_nothing),
            cmocka_unit_test(a_late_try_leaves_what_the_fallback_built),
            cmocka_unit_test(what_a_late_try_needs_is_undone_behind_it),
            cmocka_unit_test(a_try_that_keeps_is_waited_for),
            cmocka_unit_test(a_cancelled_graph_ends),
            cmocka_unit_test(waiting_has_a_timeout),
            cmocka_unit_test(bad_tables_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
