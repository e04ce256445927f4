#include "test.h"

#include "backend/interface.h"
#include "base/size.h"
#include "pipeline/planned.h"

#include <errno.h>

/* Denoising one small picture takes more memory than decoding it, the more the longer its prompts.
 */
static const Request still = {
        .prompt = (char[]){""},
        .negative_prompt = (char[]){""},
        .width = 32,
        .height = 32,
        .num_frames = 1,
        .fps = 12,
        .steps = 2,
        .guidance_scale = 4,
        .flow_shift = 3,
        .seed = 1,
        .n = 1,
};

static Request with_long_prompts(Request r) {
    static char text[4 * TEXT_ROWS + 1];
    for (size_t i = 0; i + 4 < sizeof(text); i += 4)
        memcpy(text + i, "red ", 4);
    r.prompt = r.negative_prompt = text;
    return r;
}

/* What a request takes at most under each residency, planned apart from any pipeline. */
static void plan_peaks(const Request *r, uint64_t ret[N_RESIDENCIES], Workspaces *ret_w) {
    Planned p;
    planned_open(&p, r);
    assert_int_equal(run_plan(&p.run, p.bench.backend, ret_w, NULL), 0);
    for (Residency i = 0; i < N_RESIDENCIES; i++)
        ret[i] = residency_peak(p.model, p.bench.backend, i, ret_w);
    planned_close(&p);
}

/* A model is planned before anybody has asked for anything. What it is planned with must do for
 * every prompt. */
static void the_choice_leaves_room_for_the_longest_prompts(void **state) {
    uint64_t none[N_RESIDENCIES], longest[N_RESIDENCIES];
    Workspaces w;
    Request r = with_long_prompts(still);
    plan_peaks(&still, none, &w);
    plan_peaks(&r, longest, &w);
    uint64_t limit = longest[RESIDENCY_BY_PHASE];
    assert_true(none[RESIDENCY_ALL] < limit && limit < longest[RESIDENCY_ALL]);

    Bench b;
    Err err = {0};
    assert_int_equal(bench_open_for(&b, &still, limit, &err), 0);
    bench_load(&b);
    if (pipeline_admit(b.pipeline, &r, &err) < 0)
        fail_msg("%s", err_text(&err));
    (void)run(&b, &r, NULL);
    assert_true(pipeline_peak_bytes(b.pipeline) <= limit);
    bench_close(&b);
}

/* Where that does not fit in any way, what fits is served all the same. */
static void short_prompts_are_served_where_long_ones_do_not_fit(void **state) {
    uint64_t none[N_RESIDENCIES];
    Workspaces w;
    plan_peaks(&still, none, &w);
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open_for(&b, &still, none[RESIDENCY_BY_PHASE], &err), 0);
    bench_load(&b);
    (void)run(&b, &still, NULL);
    Request r = with_long_prompts(still);
    assert_int_equal(pipeline_admit(b.pipeline, &r, &err), -E2BIG);
    bench_close(&b);
}

static void reserved_memory_does_for_the_longest_prompts(void **state) {
    Bench b;
    Err err = {0};
    Request r = with_long_prompts(still);
    assert_int_equal(bench_open_for(&b, &still, 256 * MIB, &err), 0);
    bench_load(&b);
    b.backend->info.memory_total = 256 * MIB; /* as a device has it */
    assert_int_equal(pipeline_reserve(b.pipeline, &still, &err), 0);
    uint64_t reserved = backend_memory_free(b.backend);
    (void)run(&b, &r, NULL);
    assert_int_equal(backend_memory_free(b.backend), reserved);
    bench_close(&b);
}

/* Weights of the second phase come in while the first one's workspace is still there. */
static void a_change_of_phase_stays_within_the_plan(void **state) {
    uint64_t peak[N_RESIDENCIES];
    Workspaces w;
    Request r = with_long_prompts(still);
    plan_peaks(&r, peak, &w);
    assert_true(w.denoise > w.decode);
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open_for(&b, &r, peak[RESIDENCY_BY_PHASE], &err), 0);
    assert_string_equal(pipeline_residency(b.pipeline), "weights by phase");
    bench_load(&b);
    for (int i = 0; i < 2; i++)
        (void)run(&b, &r, NULL);
    bench_close(&b);
}

static int sync_lost(Stream *s, Err *err) {
    return err_set(err, -EIO, "the device is gone");
}

/* Between the phases the pipeline has no stream to ask. */
static void a_device_lost_between_phases_is_noticed(void **state) {
    uint64_t peak[N_RESIDENCIES];
    Workspaces w;
    Request r = with_long_prompts(still);
    plan_peaks(&r, peak, &w);
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open_for(&b, &r, peak[RESIDENCY_BY_PHASE], &err), 0);
    bench_load(&b);
    static BackendOps lost;
    const BackendOps *real = b.backend->ops;
    lost = *real;
    lost.stream_sync = sync_lost;
    assert_false(pipeline_is_lost(b.pipeline));
    b.backend->ops = &lost;
    Frames frames = {0};
    Progress progress = {0};
    assert_int_equal(pipeline_run(b.pipeline, &r, NULL, &progress, take, &frames, &err), -EIO);
    assert_true(pipeline_is_lost(b.pipeline));
    b.backend->ops = real;
    bench_close(&b);
}

static const BackendOps *real_ops;
static Progress *progress_of_run;
static int n_imports;

static void cancel_and_attend(Stream *s, const AttentionArgs *a) {
    progress_of_run->cancelled = true;
    n_imports = 0;
    real_ops->attention(s, a);
}

static void count_imports(Stream *s, const WeightImport *all, size_t n) {
    n_imports++;
    real_ops->weight_import(s, all, n);
}

/* The first attention, in the text encoder's first layer, sees the request cancelled: no layer is
 * sent for after that, and the next run finds all as it must be. */
static void a_cancelled_run_sends_for_no_more_layers(void **state) {
    uint64_t peak[N_RESIDENCIES];
    Workspaces w;
    Request r = with_long_prompts(still);
    plan_peaks(&r, peak, &w);
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open_for(&b, &r, peak[RESIDENCY_STREAMED], &err), 0);
    assert_string_equal(pipeline_residency(b.pipeline), "layers streamed");
    bench_load(&b);
    Digest wanted = run(&b, &r, NULL);

    static BackendOps cancelling;
    real_ops = b.backend->ops;
    cancelling = *real_ops;
    cancelling.attention = cancel_and_attend;
    cancelling.weight_import = count_imports;
    b.backend->ops = &cancelling;
    Frames frames = {0};
    Progress progress = {0};
    progress_of_run = &progress;
    assert_int_equal(
            pipeline_run(b.pipeline, &r, NULL, &progress, take, &frames, &err), -ECANCELED);
    assert_int_equal(n_imports, 0);
    b.backend->ops = real_ops;
    Digest d = run(&b, &r, NULL);
    assert_true(digest_eq(&d, &wanted));
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_choice_leaves_room_for_the_longest_prompts),
            cmocka_unit_test(short_prompts_are_served_where_long_ones_do_not_fit),
            cmocka_unit_test(a_cancelled_run_sends_for_no_more_layers),
            cmocka_unit_test(a_device_lost_between_phases_is_noticed),
            cmocka_unit_test(reserved_memory_does_for_the_longest_prompts),
            cmocka_unit_test(a_change_of_phase_stays_within_the_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
