#include "test.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "remote/location.h"

#include <errno.h>
#include <stdlib.h>

static void addresses_are_built(void **state) {
    static const struct {
        const char *source, *endpoint, *path, *address;
        bool s3, secure, loopback;
    } cases[] = {
            {"https://host/models/wan", "", "vae/x.safetensors",
                    "https://host/models/wan/vae/x.safetensors", false, true, false},
            {"https://host/models/wan//", "", "x", "https://host/models/wan/x", false, true, false},
            {"http://localhost:8000", "", "a b+c%d\xc3\xa4",
                    "http://localhost:8000/a%20b%2Bc%25d%C3%A4", false, false, true},
            {"http://[::1]/m%20n", "", "x?y#z", "http://[::1]/m%20n/x%3Fy%23z", false, false, true},
            {"http://127.0.0.1/m", "ignored", "x", "http://127.0.0.1/m/x", false, false, true},
            {"http://127.1.2.3:80/m", "", "x", "http://127.1.2.3:80/m/x", false, false, true},
            /* Names are not numbers, whatever they begin with. */
            {"http://127.0.0.1.example.net/m", "", "x", "http://127.0.0.1.example.net/m/x", false,
                    false, false},
            {"http://127.example.net", "", "x", "http://127.example.net/x", false, false, false},
            {"s3://bucket/a b/c", "http://store:9000/", "x", "http://store:9000/bucket/a%20b/c/x",
                    true, false, false},
            {"s3://bucket", "", "x", "https://s3.eu-north-1.amazonaws.com/bucket/x", true, true,
                    false},
            {"s3://bucket/", "https://store/base", "x", "https://store/base/bucket/x", true, true,
                    false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Location l;
        Err err = {0};
        if (location_parse(cases[i].source, cases[i].endpoint, "eu-north-1", &l, &err) < 0)
            fail_msg("'%s': %s", cases[i].source, err_text(&err));
        _cleanup_free_ char *address = location_address(&l, cases[i].path);
        assert_string_equal(address, cases[i].address);
        assert_int_equal(l.s3, cases[i].s3);
        assert_int_equal(l.secure, cases[i].secure);
        assert_int_equal(l.loopback, cases[i].loopback);
        location_done(&l);
    }
}

static void what_is_no_source_is_refused(void **state) {
    static const struct {
        const char *source, *endpoint, *words;
    } cases[] = {
            {"ftp://host/x", "", "another protocol than http and https"},
            {"file:///etc/passwd", "", "another protocol"},
            {"https://user:secret@host/x", "", "must not hold a user or password"},
            {"https://user@host/x", "", "must not hold a user or password"},
            {"https://host/x?token=1", "", "has a query or fragment"},
            {"https://host/x#y", "", "has a query or fragment"},
            {"https://host/x?", "", "has a query or fragment"}, /* files would be asked for in it */
            {"https://host/x#", "", "has a query or fragment"},
            {"s3://bucket/x", "https://host/?", "has a query or fragment"},
            {"https://", "", "the address 'https:'"},
            {"https://ho st/x", "", "the address"},
            {"https://host/a\nb", "", "the address"},
            {"host/x", "", "the address"},
            {"s3://", "", "names no bucket"},
            {"s3:///x", "", "names no bucket"},
            {"s3://../x", "", "names no bucket"},
            {"s3://a?b/x", "", "names no bucket"},
            {"s3://bucket/x", "ftp://host", "another protocol"},
            {"s3://bucket/x", "https://key:secret@host", "must not hold a user or password"},
            {"s3://bucket/x", "host:9000", "the address"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Location l;
        Err err = {0};
        assert_int_equal(
                location_parse(cases[i].source, cases[i].endpoint, "r", &l, &err), -EINVAL);
        if (!strstr(err_text(&err), cases[i].words))
            fail_msg("'%s': %s", cases[i].source, err_text(&err));
        assert_null(strstr(err_text(&err), "secret"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(addresses_are_built),
            cmocka_unit_test(what_is_no_source_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
