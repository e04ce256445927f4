#include "test.h"

#include "ctl/status.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static void print(const char *json, char *text, size_t size) {
    json_error_t e;
    json_t *all = json_loads(json, 0, &e);
    if (!all)
        fail_msg("%s", e.text);
    FILE *f = fmemopen(text, size, "w");
    assert_non_null(f);
    status_print(all, 0, f);
    assert_int_equal(fclose(f), 0);
    json_decref(all);
}

static void weights_are_told_place_by_place(void **state) {
    char text[4096];
    print("{\"daemon\":{\"state\":\"asleep\",\"reason\":\"r\"},"
          "\"model\":{\"name\":\"wan\",\"root\":\"/srv/"
          "wan\",\"weight_bytes\":22783000000,\"n_files\":7},"
          "\"keeping\":{\"warm_up\":\"loading: 43 %, 9.8 of 22.8 GB, 2.91 GB/s, 4 s "
          "left\",\"parked\":false},"
          "\"segment\":{\"path\":\"/run/preheat/weights/"
          "wan\",\"n_chunks\":95,\"n_ready\":41,\"n_bad\":1,"
          "\"filling\":true,\"files\":["
          "{\"path\":\"/run/preheat/weights/wan\",\"backing\":\"huge "
          "pages\",\"page_bytes\":2097152,"
          "\"bytes\":18874368000},"
          "{\"path\":\"/run/preheat/shared/wan\",\"backing\":\"shared memory\",\"page_bytes\":4096,"
          "\"bytes\":3909091328}]}}",
            text, sizeof(text));
    assert_non_null(strstr(text, "weights     host: 41 of 95 chunks in 9000 huge pages of 2 MiB at "
                                 "'/run/preheat/weights/wan', 3.9 GB of shared memory at "
                                 "'/run/preheat/shared/wan', 1 bad, "
                                 "being filled\n"));
    assert_non_null(
            strstr(text, "warm-up     loading: 43 %, 9.8 of 22.8 GB, 2.91 GB/s, 4 s left\n"));
}

/* What may still be taken on demand is what surplus has left. */
static void surplus_pages_are_counted_once(void **state) {
    char text[1024];
    print("{\"huge_pages\":{\"total\":9,\"free\":0,\"surplus\":9,\"overcommit\":12,\"needed\":9}}",
            text, sizeof(text));
    assert_non_null(
            strstr(text, "huge pages  9 of 2 MiB, 0 free, 9 surplus, up to 3 more on demand; "
                         "the model takes 9\n"));
}

/* On a terminal, too, where other lines are cut. */
static void all_units_are_shown(void **state) {
    char text[1024];
    json_t *all = json_pack("{s:{s:s, s:s, s:s}}", "units", "preheat-warmup.service", "active",
            "preheatd.socket", "active", "preheatd.service", "failed");
    FILE *f = fmemopen(text, sizeof(text), "w");
    status_print(all, 60, f);
    assert_int_equal(fclose(f), 0);
    json_decref(all);
    assert_non_null(strstr(text, "units       preheat-warmup.service active, preheatd.socket\n"
                                 "            active, preheatd.service failed\n"));
}

static void each_tier_has_its_name(void **state) {
    static const struct {
        const char *json, *tier;
    } cases[] = {
            {"{\"segment\":{\"problem\":\"nothing is warmed up\"}}",
                    "disk; nothing is warmed up\n"},
            {"{\"segment\":{\"problem\":\"Permission denied\",\"denied\":true}}",
                    "not shown to you; Permission denied\n"},
            {"{\"segment\":{\"n_chunks\":3,\"n_ready\":3}}", "host: 3 of 3 chunks\n"},
            {"{\"segment\":{\"n_chunks\":3,\"n_ready\":3},\"keeping\":{\"parked\":true}}",
                    "vram, parked on the card; in memory: 3 of 3 chunks\n"},
            {"{\"segment\":{\"n_chunks\":3,\"n_ready\":3},\"keeping\":{\"parked\":true},"
             "\"health\":{\"phase\":\"serving\"}}",
                    "hot: 3 of 3 chunks\n"},
            {"{\"segment\":{\"n_chunks\":3,\"n_ready\":3,\"files\":[{\"path\":\"/"
             "g\",\"backing\":\"huge "
             "pages\",\"page_bytes\":1073741824,\"bytes\":2147483648}]}}",
                    "host: 3 of 3 chunks in 2 huge pages of 1 GiB at '/g'\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[2048];
        print(cases[i].json, text, sizeof(text));
        const char *line = strstr(text, "weights     ");
        assert_non_null(line);
        assert_string_equal(line + 12, cases[i].tier);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(weights_are_told_place_by_place),
            cmocka_unit_test(surplus_pages_are_counted_once),
            cmocka_unit_test(all_units_are_shown),
            cmocka_unit_test(each_tier_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
