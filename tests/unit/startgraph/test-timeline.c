#include "test.h"

#include "startgraph/timeline.h"

#include <string.h>

/* b waits for a; c is short and on nobody's way. */
static const StepReport reports[] = {
        {.name = "a", .outcome = STEP_DONE, .tries = 1, .end_usec = 500000, .last_need = -1},
        {.name = "b",
                .outcome = STEP_FELL_BACK,
                .tries = 2,
                .start_usec = 500000,
                .end_usec = 1000000},
        {.name = "c<&", .outcome = STEP_DONE, .tries = 1, .end_usec = 100000, .last_need = -1},
        {.name = "d", .outcome = STEP_SKIPPED, .end_usec = 100000, .last_need = 2},
};

static void the_critical_path_follows_the_last_needs(void **state) {
    bool critical[4];
    timeline_critical_path(reports, 4, critical);
    assert_true(critical[0] && critical[1]);
    assert_false(critical[2] || critical[3]);
}

static void text_has_a_bar_a_step(void **state) {
    Buf out = {0};
    timeline_text(reports, 4, 60, &out);
    assert_non_null(strstr(out.data, "a    |################                |   0.500 s done\n"));
    assert_non_null(strstr(
            out.data, "b    |                ################|   0.500 s fell back, 2 tries"));
    assert_non_null(strstr(out.data, "|   0.000 s skipped\n1.000 s in all"));
    assert_int_equal(timeline_end_usec(reports, 4), 1000000);
    Buf path = {0};
    timeline_path(reports, 4, &path);
    assert_string_equal(path.data, "a 0.500 s, b 0.500 s");
    buf_done(&path);
    buf_done(&out);
}

static void svg_escapes_names(void **state) {
    Buf out = {0};
    timeline_svg(reports, 4, &out);
    assert_non_null(strstr(out.data, "c&lt;&amp;"));
    assert_non_null(strstr(out.data, "</svg>\n"));
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_critical_path_follows_the_last_needs),
            cmocka_unit_test(text_has_a_bar_a_step),
            cmocka_unit_test(svg_escapes_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
