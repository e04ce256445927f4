#include "test.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "http/video-json.h"

#include <string.h>

static JobInfo example(JobState s) {
    return (JobInfo){.id = "video_0123456789abcdef0123456789abcdef",
            .state = s,
            .request = {.model = (char *)"m",
                    .prompt = (char *)"caf\xc3\xa9",
                    .width = 1280,
                    .height = 704,
                    .num_frames = 121,
                    .steps = 50,
                    .fps = 24,
                    .seed = 42},
            .created_at = 100,
            .eta_seconds = -1};
}

static void queued(void **state) {
    JobInfo info = example(JOB_QUEUED);
    info.queue_position = 2;
    info.eta_seconds = 12.34;
    _cleanup_json_ json_t *j = video_json(&info);
    _cleanup_free_ char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
            "{\"completed_at\":null,\"created_at\":100,\"degraded\":null,\"error\":null,"
            "\"eta_seconds\":12.300000000000001,\"expires_at\":null,\"fps\":24.0,\"height\":704,"
            "\"id\":\"video_0123456789abcdef0123456789abcdef\",\"model\":\"m\","
            "\"num_frames\":121,\"num_inference_steps\":50,\"object\":\"video\",\"peak_device_"
            "memory_mb\":null,"
            "\"phase\":\"queued\",\"progress\":0,\"prompt\":\"caf\xc3\xa9\","
            "\"queue_position\":2,\"remixed_from_video_id\":null,\"seconds\":\"5.04\","
            "\"seed\":42,\"size\":\"1280x704\",\"stage_seconds\":{},\"start\":null,"
            "\"status\":\"queued\",\"step\":null,\"width\":1280}");
}

static void failed(void **state) {
    JobInfo info = example(JOB_FAILED);
    memcpy(info.error_code, "cancelled", 10);
    info.error_message = (char *)"cut within \xc3";
    _cleanup_json_ json_t *j = video_json(&info);
    const json_t *error = json_object_get(j, "error");
    assert_string_equal(json_string_value(json_object_get(error, "code")), "cancelled");
    assert_string_equal(json_string_value(json_object_get(error, "message")), "cut within ");
    assert_string_equal(json_string_value(json_object_get(j, "phase")), "failed");
}

static void damaged_record_is_shown(void **state) {
    JobInfo info = {.id = "video_0123456789abcdef0123456789abcdef", .state = JOB_FAILED};
    memcpy(info.error_code, "record_damaged", 15);
    _cleanup_json_ json_t *j = video_json(&info);
    assert_non_null(j);
    assert_true(json_is_null(json_object_get(j, "prompt")));
    assert_string_equal(json_string_value(json_object_get(j, "seconds")), "0");
}

static void polling_follows_what_is_left(void **state) {
    static const struct {
        double eta;
        int msec;
    } cases[] = {{-1, 1000}, {0, 250}, {1, 250}, {50, 1000}, {100, 2000}, {10000, 5000}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        JobInfo info = example(JOB_IN_PROGRESS);
        info.eta_seconds = cases[i].eta;
        assert_int_equal(video_json_poll_msec(&info), cases[i].msec);
    }
    JobInfo done = example(JOB_COMPLETED);
    assert_int_equal(video_json_poll_msec(&done), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(queued),
            cmocka_unit_test(failed),
            cmocka_unit_test(damaged_record_is_shown),
            cmocka_unit_test(polling_follows_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
