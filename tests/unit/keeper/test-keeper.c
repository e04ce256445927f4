#include "serving.h"

#include "base/cleanup.h"
#include "keeper/keeper.h"

/* A keeper that answers the first request with these bytes, then hangs up. */
typedef struct Canned {
    int listener;
    const void *data;
    size_t n, n_fds;
} Canned;

static void *answer(void *context) {
    const Canned *c = context;
    WireRequest q;
    int fds[WIRE_MAX_FDS], fd = accept(c->listener, NULL, NULL);
    size_t n_fds;
    assert_true(fd >= 0 && wire_receive(fd, &q, sizeof(q), fds, &n_fds) == sizeof(q));
    wire_close_all(fds, n_fds);
    if (c->n > 0)
        assert_int_equal(wire_send(fd, c->data, c->n, (int[]){2, 2}, c->n_fds), 0);
    close(fd);
    return NULL;
}

static void answers_that_are_none_are_refused(void **state) {
    static const WireAnswer two = {.magic = WIRE_MAGIC, .count = 2, .n = 2, .name = {"a", "b"}};
    static const WireAnswer bad_name = {.magic = WIRE_MAGIC, .count = 1, .n = 1, .name = {"A"}};
    static const WireAnswer many = {.magic = WIRE_MAGIC, .n = WIRE_MAX_KEPT + 1};
    static const WireAnswer other = {.magic = "PHK2"};
    static const WireAnswer positive = {.magic = WIRE_MAGIC, .code = 5};
    static const WireAnswer refusal = {.magic = WIRE_MAGIC, .code = -EACCES};
    static const struct {
        const WireAnswer *a;
        size_t n, n_fds;
        int code;
    } cases[] = {
            {&two, 64, 1, -EPROTO},      /* a descriptor too few */
            {&two, 64, 0, -EPROTO},      /* none */
            {&two, 63, 2, -EPROTO},      /* a name cut short */
            {&two, 15, 0, -EPROTO},      /* no head */
            {&bad_name, 40, 1, -EPROTO}, /* */
            {&many, 16, 0, -EPROTO},
            {&other, 16, 0, -EPROTO},
            {&positive, 16, 0, -EPROTO},
            {&refusal, 16, 1, -EPROTO},
            {&refusal, 16, 0, -EACCES},
            {NULL, 0, 0, -ECONNRESET},
    };
    char dir[] = "/tmp/preheat-keeper-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/k", dir);
    Canned c = {.listener = listen_at(path)};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        pthread_t thread;
        KeeperSet set;
        Err err = {0};
        c.data = cases[i].a;
        c.n = cases[i].n;
        c.n_fds = cases[i].n_fds;
        int before = dup(2);
        assert_int_equal(pthread_create(&thread, NULL, answer, &c), 0);
        int r = keeper_fetch(path, &set, &err);
        if (r != cases[i].code)
            fail_msg("case %zu: %d, wanted %d: %s", i, r, cases[i].code, err_text(&err));
        assert_non_null(strstr(err_text(&err), path));
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(close(before), 0);
        assert_int_equal(dup(2), before); /* nothing stayed open */
        assert_int_equal(close(before), 0);
    }
    close(c.listener);
    unlink(path);
    rmdir(dir);
}

static void no_keeper_is_an_error_with_its_path(void **state) {
    Err err = {0};
    size_t n;
    assert_int_equal(keeper_count("/nonexistent/k.sock", &n, &err), -ENOENT);
    assert_string_equal(
            err_text(&err), "preheat-keeper at '/nonexistent/k.sock': No such file or directory");
    char path[200] = "/";
    memset(path + 1, 'a', sizeof(path) - 2);
    err_clear(&err);
    assert_int_equal(keeper_count(path, &n, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), "has 199 bytes, allowed are 107"));
    err_clear(&err);
    assert_int_equal(keeper_store("/nonexistent/k.sock", "A", 2, &err), -EINVAL);
    assert_string_equal(err_text(&err), "'A' is no name for a descriptor");
}

static void a_silent_keeper_is_not_waited_for_for_ever(void **state) {
    char dir[] = "/tmp/preheat-keeper-XXXXXX", path[64];
    Err err = {0};
    size_t n;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/k", dir);
    int listener = listen_at(path);
    assert_int_equal(keeper_count(path, &n, &err), -ETIMEDOUT);
    assert_non_null(strstr(err_text(&err), "gives no answer"));
    close(listener);
    unlink(path);
    rmdir(dir);
}

static void its_directory_tells_whether_it_runs(void **state) {
    char dir[] = "/tmp/preheat-keeper-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s.sock", dir);
    assert_true(keeper_is_running(path));
    assert_int_equal(rmdir(dir), 0);
    assert_false(keeper_is_running(path));
    assert_true(keeper_is_running(dir)); /* no such rule for another name */
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(answers_that_are_none_are_refused),
            cmocka_unit_test(no_keeper_is_an_error_with_its_path),
            cmocka_unit_test(a_silent_keeper_is_not_waited_for_for_ever),
            cmocka_unit_test(its_directory_tells_whether_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
