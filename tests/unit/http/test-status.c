#include "test.h"

#include "base/macro.h"
#include "http/status.h"

#include <errno.h>

/* What the API promises its clients; the client library repeats 409, 429 and 5xx by itself. */
static void statuses(void **state) {
    static const struct {
        int code;
        unsigned status;
    } cases[] = {{-EINVAL, 400}, {-E2BIG, 400}, {-EAGAIN, 400}, {-EKEYREJECTED, 401}, {-EPERM, 403},
            {-ENOENT, 404}, {-EOPNOTSUPP, 405}, {-EFBIG, 413}, {-EPROTONOSUPPORT, 415},
            {-ERANGE, 416}, {-EBUSY, 429}, {-ENOSPC, 503}, {-ESHUTDOWN, 503}, {-EIO, 500},
            {-EBADMSG, 500}, {-9999, 500}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        HttpStatus s = http_status(cases[i].code);
        assert_int_equal(s.status, cases[i].status);
        assert_non_null(s.type);
        assert_non_null(s.code);
        assert_int_not_equal(s.status, 409);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(statuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
