#include "test.h"

#include "ctl/release.h"

static void what_is_due_is_released(void **state) {
    enum { S = 1000000 };
    static const struct {
        ReleaseState state;
        bool idle;
        uint64_t after, now;
        ReleaseStep wanted;
        uint64_t floor, free;
    } cases[] = {
            {{.runs = true, .n_kept = 3}, false, 0, 9 * S, RELEASE_IN_USE, 0, 0},
            {{.runs = true, .n_kept = 3, .since_usec = S}, true, S, 9 * S, RELEASE_IN_USE, 0, 0},
            {{.n_kept = 0}, false, 0, 9 * S, RELEASE_NOTHING, 0, 0},
            {{.n_kept = 0}, true, S, 9 * S, RELEASE_NOTHING, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, false, 60 * S, 6 * S, RELEASE_NOW, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, false, 0, 6 * S, RELEASE_NOW, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 64 * S, RELEASE_LATER, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 65 * S, RELEASE_NOW, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 0, 999 * S, RELEASE_LATER, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 4 * S, RELEASE_LATER, 0, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 6 * S, RELEASE_NOW, 100, 99},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 60 * S, 6 * S, RELEASE_LATER, 100, 100},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 0, 6 * S, RELEASE_NOW, 100, 0},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 0, 6 * S, RELEASE_LATER, 100, UINT64_MAX},
            {{.n_kept = 3, .since_usec = 5 * S}, true, 0, 6 * S, RELEASE_LATER, 0, 0},
            {{.n_kept = 0}, true, 0, 6 * S, RELEASE_NOTHING, 100, 99},
            {{.runs = true, .n_kept = 3}, true, 0, 6 * S, RELEASE_IN_USE, 100, 99},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ReleaseOptions o = {.idle = cases[i].idle};
        ReleaseRules rules = {.after_usec = cases[i].after, .floor_bytes = cases[i].floor};
        ReleaseState found = cases[i].state;
        found.free_bytes = cases[i].free;
        assert_int_equal(release_decide(&found, &o, &rules, cases[i].now), cases[i].wanted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(what_is_due_is_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
