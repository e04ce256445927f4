#include "test.h"

#include "base/macro.h"
#include "http/etag.h"

static void tags_are_found(void **state) {
    static const struct {
        const char *list;
        bool strong, weak;
    } cases[] = {
            {"\"a-1\"", true, true},
            {"\"x\", \"a-1\"", true, true},
            {"\"x\",\"a-1\" , \"y\"", true, true},
            {", ,\"a-1\"", true, true},
            {"\"a,\", \"a-1\"", true, true},
            {"W/\"a-1\"", false, true},
            {"W/\"x\", W/\"a-1\"", false, true},
            {"*", true, true},
            {" * ", true, true},
            {"", false, false},
            {",", false, false},
            {"\"a-2\"", false, false},
            {"\"a-11\"", false, false},
            {"\"a-\"", false, false},
            {"a-1", false, false},
            {"\"a-1", false, false},
            {"w/\"a-1\"", false, false},
            {"x, \"a-1\"", false, false},
            {"\"x\"\"a-1\"", false, false},
            {"*, \"x\"", false, false},
            {"W/", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool strong = http_etag_listed(cases[i].list, "\"a-1\"", false);
        bool weak = http_etag_listed(cases[i].list, "\"a-1\"", true);
        if (strong != cases[i].strong || weak != cases[i].weak)
            fail_msg("%s is %d, weakly %d", cases[i].list, strong, weak);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tags_are_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
