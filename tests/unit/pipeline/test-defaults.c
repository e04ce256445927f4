#include "test.h"

#include "base/macro.h"
#include "model/tiny.h"
#include "pipeline/defaults.h"

#include <errno.h>

/* What a model says of requests is held against what a configuration could say. */
static void a_models_own_defaults_are_checked(void **state) {
    static const struct {
        const char *from, *to, *sentence; /* NULL: taken */
    } cases[] = {
            {"\"fps\": 12", "\"fps\": 24.5", NULL},
            {"\"fps\": 12", "\"fps\": 0.5",
                    "model_index.json: '_preheat_defaults.fps' is 0.5, it must be from 1 to 240"},
            {"\"guidance_scale\": 4.0", "\"guidance_scale\": -1",
                    "model_index.json: '_preheat_defaults.guidance_scale' is -1, it must be from 0 "
                    "to "
                    "100"},
            {"\"width\": 128", "\"width\": 9000",
                    "model_index.json: '_preheat_defaults.width' is 9000, it must be from 1 to "
                    "8192"},
            {"\"num_inference_steps\"", "\"steps\"",
                    "model_index.json: there is no setting '_preheat_defaults.steps'"},
            {"\"_preheat_defaults\": {", "\"_preheat_defaults\": 1, \"_other\": {",
                    "model_index.json: '_preheat_defaults' is no object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Tiny t;
        Err err = {0};
        RequestDefaults d;
        const SchedulerConfig scheduler = {.kind = SAMPLER_EULER, .shift = 3};
        tiny_open(&t, &(TinyEdit){"model_index.json", cases[i].from, cases[i].to});
        int r = defaults_read(t.checkpoint, &scheduler, &d, &err);
        if (cases[i].sentence) {
            assert_int_equal(r, -EINVAL);
            assert_string_equal(err_text(&err), cases[i].sentence);
        } else {
            assert_int_equal(r, 0);
            assert_int_equal(d.width, 128);
            assert_int_equal(d.steps, 20);
            assert_true(d.fps == 24.5 && d.guidance_scale == 4 && d.flow_shift == 3);
            assert_int_equal(d.scheduler, SCHEDULER_EULER);
        }
        tiny_close(&t);
    }
}

/* The official pipeline's, where a model says nothing. */
static void a_model_may_say_nothing(void **state) {
    Tiny t;
    RequestDefaults d;
    tiny_open(&t, &(TinyEdit){"model_index.json", "_preheat_defaults", "_other"});
    assert_int_equal(defaults_read(t.checkpoint, &(SchedulerConfig){.shift = 5}, &d, NULL), 0);
    assert_int_equal(d.width, 1280);
    assert_int_equal(d.height, 704);
    assert_int_equal(d.num_frames, 121);
    assert_int_equal(d.steps, 50);
    assert_true(d.fps == 24 && d.guidance_scale == 5 && d.flow_shift == 5);
    assert_int_equal(d.scheduler, SCHEDULER_UNIPC);
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_models_own_defaults_are_checked),
            cmocka_unit_test(a_model_may_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
