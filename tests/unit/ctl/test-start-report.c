#include "test.h"

#include "base/json.h"
#include "canned.h"
#include "ctl/exit.h"
#include "ctl/start-report.h"

#include <stdlib.h>
#include <string.h>

/* What is printed of the detail; the caller frees. */
static char *printed(const char *detail, int wanted, Err *err) {
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    _cleanup_json_ json_t *j = NULL;
    assert_int_equal(json_parse(detail, strlen(detail), &j, NULL), 0);
    assert_int_equal(start_report_print(j, 80, out, err), wanted);
    assert_int_equal(fclose(out), 0);
    return text;
}

#define STEP(name, start, end, need, error)                                                        \
    "{\"name\":\"" name "\",\"outcome\":\"done\",\"tries\":1,\"start\":" start ",\"end\":" end     \
    ",\"last_need\":" need ",\"error\":\"" error "\"}"

static void a_start_is_shown_with_its_path_and_reasons(void **state) {
    char *text = printed("{\"seconds_before_start\":0.02,\"start\":[" STEP("manifest", "0", "0.1",
                                 "-1", "") "," STEP("backend", "0", "0.05", "-1",
                                 "no \\u001bcard") "," STEP("load", "0.1", "0.4", "0", "") "]}",
            0, NULL);
    assert_non_null(strstr(text, "manifest |#"));
    assert_non_null(strstr(text, "backend  |="));
    assert_non_null(strstr(text, "0.400 s in all"));
    assert_non_null(strstr(text, "waited for manifest 0.100 s, load 0.300 s\n"));
    assert_non_null(strstr(text, "backend: no ?card\n"));
    free(text);
}

static void no_start_is_said(void **state) {
    Err err = {0};
    free(printed("{\"start\":[]}", -ESRCH, &err));
    assert_string_equal(err_text(&err), "the daemon has not begun to open a model");
}

static void odd_answers_are_refused(void **state) {
    static const char *const odd[] = {
            "{\"start\":[" STEP("a", "0", "1", "0", "") "]}",
            "{\"start\":[" STEP("a", "0", "1", "1", "") "]}",
            "{\"start\":[" STEP("a", "0", "1", "1", "") "," STEP("b", "0", "1", "0", "") "]}",
            "{\"start\":[" STEP("a", "2", "1", "-1", "") "]}",
            "{\"start\":[" STEP("a", "0", "1e9", "-1", "") "]}",
            "{\"start\":[" STEP("a\\u001b", "0", "1", "-1", "") "]}",
            "{\"start\":[1]}",
            "{\"start\":[{\"name\":\"a\",\"outcome\":\"splendid\",\"tries\":1,\"start\":0,\"end\":"
            "1,\"last_need\":-1}]}",
            "{\"start\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},"
            "{},{},{},{},{},{},{},{},{}]}",
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        free(printed(odd[i], -EPROTO, NULL));
}

static int compared(const char *detail, char **ret_text, Err *err) {
    size_t n = 0;
    FILE *out = open_memstream(ret_text, &n);
    _cleanup_json_ json_t *j = NULL;
    assert_int_equal(json_parse(detail, strlen(detail), &j, NULL), 0);
    int r = start_report_compare(j, out, err);
    assert_int_equal(fclose(out), 0);
    return r;
}

#define VARIANT(name, starts, failed)                                                              \
    "{\"variant\":\"" name "\",\"start\":\"cold_host\",\"starts\":" starts ",\"failed\":" failed   \
    ",\"median_seconds\":0.5,\"worst_seconds\":0.75}"

static void variants_are_set_side_by_side(void **state) {
    char *text = NULL;
    assert_int_equal(compared("{\"variants\":[" VARIANT("a", "12", "1") "," VARIANT(
                                      "b\\u001b", "9", "0") "]}",
                             &text, NULL),
            0);
    assert_non_null(strstr(text, "VARIANT"));
    assert_non_null(strstr(
            text, "a                        cold_host        12      1     0.500     0.750\n"));
    assert_non_null(strstr(text, "b?                       cold_host         9      0"));
    free(text);
    static const struct {
        const char *detail;
        int r;
        const char *text;
    } odd[] = {
            {"{}", -ESRCH, "there are no variants: [daemon] start_variants is empty"},
            {"{\"variants\":[]}", -ESRCH, "no start with a variant has ended yet"},
            {"{\"variants\":[1]}", -EPROTO, "the daemon's report: a variant is no object"},
            {"{\"variants\":[" VARIANT("a", "1", "2") "]}", -EPROTO, NULL},
            {"{\"variants\":[{}]}", -EPROTO, NULL},
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        Err err = {0};
        assert_int_equal(compared(odd[i].detail, &text, &err), odd[i].r);
        if (odd[i].text)
            assert_string_equal(err_text(&err), odd[i].text);
        free(text);
    }
}

/* A daemon that was woken is asked until its start is over. */
static void a_start_under_way_is_waited_for(void **state) {
    static const CannedAnswer answers[] = {
            {"GET /healthz ", CANNED_OK "{\"detail\":{\"start\":[{\"outcome\":\"running\"}]}}"},
            {"GET /healthz ", CANNED_OK "{\"detail\":{\"start\":[{\"outcome\":\"pending\"}]}}"},
            {"GET /healthz ",
                    CANNED_OK "{\"detail\":{\"start\":[" STEP("load", "0", "0.3", "-1", "") "]}}"},
    };
    Canned server;
    canned_start(&server, answers, ARRAY_LEN(answers));
    ClientOptions o = {.socket = server.path};
    Client *c = NULL;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    Signals signals = {0};
    _cleanup_json_ json_t *units = json_object();
    assert_int_equal(client_new(&o, &c, NULL), 0);
    signals_open(&signals);
    const StartReportOptions wake = {.wake = true};
    assert_int_equal(start_report_run(c, units, &wake, &signals, 80, out, NULL), 0);
    signals_close(&signals);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(server.n_served, 3);
    assert_non_null(strstr(text, "0.300 s in all"));
    free(text);
    assert_null(client_free(c));
    canned_stop(&server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_start_is_shown_with_its_path_and_reasons),
            cmocka_unit_test(no_start_is_said),
            cmocka_unit_test(odd_answers_are_refused),
            cmocka_unit_test(variants_are_set_side_by_side),
            cmocka_unit_test(a_start_under_way_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
