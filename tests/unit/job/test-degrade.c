#include "test.h"

#include "base/macro.h"
#include "job/degrade.h"

#include <errno.h>
#include <string.h>

static const Request full = {
        .width = 1280, .height = 704, .num_frames = 121, .steps = 50, .guidance_scale = 5, .n = 1};

static DegradePlan ladder(const char *text) {
    DegradePlan plan = {.deadline_sec = 2, .usual = DEGRADE_CACHED};
    Err err = {0};
    if (degrade_parse_ladder(text, &plan, &err) < 0)
        fail_msg("%s", err_text(&err));
    return plan;
}

/* A second a step of the full size. */
static Estimate known(void) {
    return (Estimate){.usec_per_unit = {[PHASE_DENOISING] = 1e6 / (1280.0 * 704 * 121 * 2)}};
}

static void ladders_are_read_or_refused(void **state) {
    DegradePlan plan = ladder("steps:30  steps:20,frames:61 pixels:400000,steps:10 ");
    assert_int_equal(plan.n_rungs, 3);
    assert_int_equal(plan.rung[1].frames, 61);
    assert_int_equal(plan.rung[2].pixels, 400000);
    assert_int_equal(plan.rung[2].frames, 0);
    assert_int_equal(ladder("").n_rungs, 0);
    static const char *const bad[] = {"steps", "steps:", "steps:0", "steps:-3", "steps:x",
            "magic:3", "pixels:10", "frames:99999999999", "steps:1,frames",
            "steps:1 steps:1 steps:1 steps:1 steps:1 steps:1 steps:1 steps:1 steps:1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        Err err = {0};
        DegradePlan p = {0};
        assert_int_equal(degrade_parse_ladder(bad[i], &p, &err), -EINVAL);
        assert_non_null(strstr(err_text(&err), "ladder"));
    }
}

static void only_a_known_wait_beyond_the_deadline_counts(void **state) {
    DegradePlan plan = {.deadline_sec = 2};
    assert_true(degrade_is_due(&plan, 2.1));
    assert_false(degrade_is_due(&plan, 2));
    assert_false(degrade_is_due(&plan, -1));
    plan.deadline_sec = 0;
    assert_false(degrade_is_due(&plan, 1e9));
}

static void what_the_request_says_goes_before_what_is_usual(void **state) {
    DegradePlan plan = {.usual = DEGRADE_CACHED};
    Request r = full;
    assert_int_equal(degrade_policy(&plan, &r), DEGRADE_CACHED);
    r.degrade = DEGRADE_NONE;
    assert_int_equal(degrade_policy(&plan, &r), DEGRADE_NONE);
}

static void the_best_rung_that_makes_good_is_taken(void **state) {
    DegradePlan plan = ladder("steps:50 steps:40 steps:30,frames:60 steps:10,pixels:230000");
    static const struct {
        double wait;
        int r;
        const char *text;
    } cases[] = {
            {5, 0, "40 steps instead of 50"},
            {12, 0, "40 steps instead of 50"},
            {12.1, 0, "30 steps instead of 50, 57 frames instead of 121"},
            {45, 0, "10 steps instead of 50, 640x352 instead of 1280x704"},
            {52, -ETIME, ""},
    };
    Estimate e = known();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Request r = full;
        assert_int_equal(degrade_step_down(&plan, cases[i].wait, &e, 32, &r), cases[i].r);
        assert_string_equal(r.degraded, cases[i].text);
        if (cases[i].r < 0)
            assert_memory_equal(&r, &full, sizeof(r));
        assert_int_equal(r.width % 32 + r.height % 32, 0);
        assert_int_equal(r.num_frames % 4, 1);
    }
}

static void without_times_the_last_rung_is_taken(void **state) {
    DegradePlan plan = ladder("steps:40 steps:1,frames:1,pixels:1024");
    Estimate e = {0};
    Request r = full;
    assert_int_equal(degrade_step_down(&plan, 10, &e, 32, &r), 0);
    assert_int_equal(r.steps, 1);
    assert_int_equal(r.num_frames, 1);
    assert_int_equal(r.width, 32);
    assert_int_equal(r.height, 32);
    Request small = r;
    small.degraded[0] = '\0';
    assert_int_equal(degrade_step_down(&plan, 10, &e, 32, &small), -ETIME);
    plan = ladder("");
    r = full;
    assert_int_equal(degrade_step_down(&plan, 10, &e, 32, &r), -ETIME);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(ladders_are_read_or_refused),
            cmocka_unit_test(only_a_known_wait_beyond_the_deadline_counts),
            cmocka_unit_test(what_the_request_says_goes_before_what_is_usual),
            cmocka_unit_test(the_best_rung_that_makes_good_is_taken),
            cmocka_unit_test(without_times_the_last_rung_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
