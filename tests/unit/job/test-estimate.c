#include "test.h"

#include "job/estimate.h"

static const Request small = {
        .width = 100, .height = 100, .num_frames = 5, .steps = 10, .guidance_scale = 5};

static const uint64_t times[N_PHASES] = {[PHASE_LOADING] = 3000000,
        [PHASE_ENCODING_TEXT] = 1000000,
        [PHASE_DENOISING] = 10000000,
        [PHASE_DECODING] = 2000000};

static bool near(double a, double b) {
    return a > b - 1e-6 && a < b + 1e-6;
}

static void nothing_known(void **state) {
    Estimate e = {0};
    Progress p = {.phase = PHASE_ENCODING_TEXT};
    assert_true(estimate_total(&e, &small) < 0);
    assert_true(estimate_left(&e, &small, &p, 1000000) < 0);
    assert_int_equal(estimate_percent(&e, &small, &p), 0);
}

static void first_job_is_told_from_its_own_steps(void **state) {
    Estimate e = {0};
    Progress p = {.phase = PHASE_DENOISING, .step = 2, .n_steps = 10};
    assert_true(near(estimate_left(&e, &small, &p, 4000000), 16));
    int before = estimate_percent(&e, &small, &p);
    p.step = 9;
    assert_true(estimate_percent(&e, &small, &p) > before);
}

static void work_scales(void **state) {
    Estimate e = {0};
    estimate_learn(&e, &small, times);
    assert_true(near(estimate_total(&e, &small), 13)); /* without loading */
    Request large = small;
    large.num_frames = 10;
    assert_true(near(estimate_total(&e, &large), 1 + 20 + 4));
    large.guidance_scale = 1; /* one pass instead of two */
    assert_true(near(estimate_total(&e, &large), 1 + 10 + 4));
}

static void left_shrinks_and_percent_grows(void **state) {
    Estimate e = {0};
    estimate_learn(&e, &small, times);
    Progress p = {.phase = PHASE_LOADING};
    assert_true(near(estimate_left(&e, &small, &p, 0), 3 + 13));
    assert_int_equal(estimate_percent(&e, &small, &p), 0);
    p.phase = PHASE_DENOISING;
    p.step = 5;
    p.n_steps = 10;
    assert_true(near(estimate_left(&e, &small, &p, 0), 5 + 2));
    assert_int_equal(estimate_percent(&e, &small, &p), 99 * 6 / 13);
    p.phase = PHASE_DECODING;
    p.frames_decoded = 5;
    assert_true(near(estimate_left(&e, &small, &p, 0), 0));
    p.phase = PHASE_DONE;
    assert_int_equal(estimate_percent(&e, &small, &p), 99);
}

static void later_jobs_count_more(void **state) {
    Estimate e = {0};
    uint64_t slow[N_PHASES] = {[PHASE_DENOISING] = 20000000},
             fast[N_PHASES] = {[PHASE_DENOISING] = 10000000};
    estimate_learn(&e, &small, slow);
    for (int i = 0; i < 20; i++)
        estimate_learn(&e, &small, fast);
    double total = estimate_total(&e, &small);
    assert_true(total > 10 && total < 10.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(nothing_known),
            cmocka_unit_test(first_job_is_told_from_its_own_steps),
            cmocka_unit_test(work_scales),
            cmocka_unit_test(left_shrinks_and_percent_grows),
            cmocka_unit_test(later_jobs_count_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
