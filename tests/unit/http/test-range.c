#include "test.h"

#include "base/macro.h"
#include "http/range.h"

#include <errno.h>

static void ranges(void **state) {
    static const struct {
        const char *header;
        uint64_t size;
        int r;
        uint64_t first, n;
    } cases[] = {
            {"bytes=0-0", 10, 0, 0, 1},
            {"bytes=0-", 10, 0, 0, 10},
            {"bytes=9-", 10, 0, 9, 1},
            {"bytes=3-5", 10, 0, 3, 3},
            {"bytes=3-99", 10, 0, 3, 7},
            {"bytes=-3", 10, 0, 7, 3},
            {"bytes=-99", 10, 0, 0, 10},
            {"bytes=0-18446744073709551615", 10, 0, 0, 10},
            {"bytes=0-99999999999999999999999", 10, 0, 0, 10},
            {"bytes=10-", 10, -ERANGE, 0, 0},
            {"bytes=99999999999999999999999-", 10, -ERANGE, 0, 0},
            {"bytes=-0", 10, -ERANGE, 0, 0},
            {"bytes=0-", 0, -ERANGE, 0, 0},
            {"bytes=-1", 0, -ERANGE, 0, 0},
            {"bytes=5-3", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes=0-1,3-4", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes=", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes=-", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes=+1-2", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes= 1-2", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes=1-2 ", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"bytes", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"chunks=1-2", 10, HTTP_RANGE_WHOLE, 0, 0},
            {"", 10, HTTP_RANGE_WHOLE, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t first = 0, n = 0;
        int r = http_range_parse(cases[i].header, cases[i].size, &first, &n);
        if (r != cases[i].r || first != cases[i].first || n != cases[i].n)
            fail_msg("'%s' of %ju is %d: %ju, %ju", cases[i].header, (uintmax_t)cases[i].size, r,
                    (uintmax_t)first, (uintmax_t)n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
