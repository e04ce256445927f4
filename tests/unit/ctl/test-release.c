#include "test.h"

#include "ctl/release.h"

static void what_is_due_is_released(void **state) {
    enum { S = 1000000 };
    static const struct {
        ReleaseState state;
        bool idle;
        uint64_t after, now;
        ReleaseStep wanted;
    } cases[] = {
            {{.runs = true, .n_kept = 3}, false, 0, 9 * S, RELEASE_IN_USE},
            {{.runs = true, .n_kept = 3, .since_usec = S}, true, S, 9 * S, RELEASE_IN_USE},
            {{.n_kept = 0}, false, 0, 9 * S, RELEASE_NOTHING},
            {{.n_kept = 0}, true, S, 9 * S, RELEASE_NOTHING},
            {{.n_kept = 3, .since_usec = 5 * S}, false, 60 * S, 6 * S, RELEASE_NOW},
            {{.n_kept = 3, .since_usec = 5 * S}, false, 0, 6 * S, RELEASE_NOW},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 64 * S, RELEASE_LATER},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 65 * S, RELEASE_NOW},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 0, 999 * S, RELEASE_LATER},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 4 * S, RELEASE_LATER},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ReleaseOptions o = {.idle = cases[i].idle};
        assert_int_equal(
                release_decide(&cases[i].state, &o, cases[i].after, cases[i].now), cases[i].wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(what_is_due_is_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
