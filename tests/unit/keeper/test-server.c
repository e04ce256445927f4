#include "serving.h"

#include "keeper/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

enum { SOON = 30 * 1000, LONG = 10 * 1000 * 1000 };

static int connect_to(const Serving *s) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", s->path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    return fd;
}

static bool is_ended(int socket) {
    struct pollfd p = {.fd = socket, .events = POLLIN};
    char c;
    assert_int_equal(poll(&p, 1, 5000), 1);
    return recv(socket, &c, 1, 0) == 0;
}

static void store(const Serving *s, const char *name, int fd) {
    Err err = {0};
    if (keeper_store(s->path, name, fd, &err) < 0)
        fail_msg("%s", err_text(&err));
}

static size_t count(const Serving *s) {
    size_t n;
    assert_int_equal(keeper_count(s->path, &n, NULL), 0);
    return n;
}

static void remove_all(const Serving *s, size_t wanted) {
    size_t n;
    assert_int_equal(keeper_remove(s->path, NULL, &n, NULL), 0);
    assert_int_equal(n, wanted);
}

static void stored_ones_come_back_by_name(void **state) {
    Serving s;
    int ends[2];
    struct stat a, b;
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(fstat(ends[1], &a), 0);
    serving_begin(&s, SOON, LONG);
    store(&s, "parked-0", ends[1]);
    store(&s, "parked-1", STDERR_FILENO);
    close(ends[1]);
    assert_int_equal(count(&s), 2);
    for (int twice = 0; twice < 2; twice++) { /* they stay */
        KeeperSet set;
        assert_int_equal(keeper_fetch(s.path, &set, NULL), 0);
        assert_int_equal(set.n, 2);
        assert_string_equal(set.name[0], "parked-0");
        assert_string_equal(set.name[1], "parked-1");
        assert_int_equal(fstat(set.fd[0], &b), 0);
        assert_true(a.st_dev == b.st_dev && a.st_ino == b.st_ino);
        assert_true(fcntl(set.fd[0], F_GETFD) & FD_CLOEXEC);
        wire_close_all(set.fd, set.n);
    }
    assert_false(is_closed(ends[0]));
    size_t n;
    assert_int_equal(keeper_remove(s.path, "parked-0", &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_true(is_closed(ends[0])); /* closed when the answer comes, not some time after it */
    assert_int_equal(keeper_remove(s.path, "parked-0", &n, NULL), 0);
    assert_int_equal(n, 0);
    remove_all(&s, 1);
    serving_end(&s);
    close(ends[0]);
}

static void it_stays_while_it_holds_something(void **state) {
    Serving s;
    serving_begin(&s, SOON, LONG);
    store(&s, "parked-0", STDERR_FILENO);
    assert_int_equal(poll(NULL, 0, 5 * SOON / 1000), 0);
    assert_int_equal(count(&s), 1);
    remove_all(&s, 1);
    serving_end(&s);
}

static void as_many_as_fit_in_one_packet(void **state) {
    Serving s;
    Err err = {0};
    KeeperSet set;
    char name[16];
    serving_begin(&s, SOON, LONG);
    for (unsigned i = 0; i < WIRE_MAX_KEPT; i++) {
        (void)snprintf(name, sizeof(name), "parked-%u", i);
        store(&s, name, STDERR_FILENO);
    }
    assert_int_equal(keeper_store(s.path, "one-more", STDERR_FILENO, &err), -ENOSPC);
    assert_int_equal(count(&s), WIRE_MAX_KEPT);
    assert_int_equal(keeper_fetch(s.path, &set, NULL), 0);
    assert_int_equal(set.n, WIRE_MAX_KEPT);
    wire_close_all(set.fd, set.n);
    remove_all(&s, WIRE_MAX_KEPT);
    serving_end(&s);
}

/* Sends one packet on a connection of its own; returns the answer's code. */
static int tried(const Serving *s, const void *data, size_t n, size_t n_fds) {
    const int fds[] = {STDERR_FILENO, STDERR_FILENO};
    WireAnswer a;
    int got[WIRE_MAX_FDS], c = connect_to(s);
    size_t n_got;
    assert_int_equal(wire_send(c, data, n, fds, n_fds), 0);
    assert_int_equal(wire_receive(c, &a, sizeof(a), got, &n_got), WIRE_ANSWER_HEAD_BYTES);
    assert_memory_equal(a.magic, WIRE_MAGIC, sizeof(a.magic));
    assert_int_equal(n_got + a.n + a.count, 0);
    assert_true(is_ended(c));
    close(c);
    return a.code;
}

static void malformed_requests_change_nothing(void **state) {
    static const struct {
        WireRequest q;
        size_t n, n_fds;
        int code;
    } cases[] = {
            {{"PHK1", WIRE_LIST, {0}, ""}, 31, 0, -EBADMSG},
            {{"PHK1", WIRE_LIST, {0}, ""}, 1, 0, -EBADMSG},
            {{"PHK2", WIRE_LIST, {0}, ""}, 32, 0, -EBADMSG},
            {{"PHK1", 0, {0}, ""}, 32, 0, -EBADMSG},
            {{"PHK1", 5, {0}, ""}, 32, 0, -EBADMSG},
            {{"PHK1", WIRE_LIST, {0, 1, 0}, ""}, 32, 0, -EBADMSG},
            {{"PHK1", WIRE_LIST, {0}, ""}, 32, 1, -EBADMSG},
            {{"PHK1", WIRE_FETCH, {0}, ""}, 32, 1, -EBADMSG},
            {{"PHK1", WIRE_LIST, {0}, "parked-0"}, 32, 0, -EBADMSG},
            {{"PHK1", WIRE_FETCH, {0}, "parked-0"}, 32, 0, -EBADMSG},
            {{"PHK1", WIRE_REMOVE, {0}, "parked-0"}, 32, 1, -EBADMSG},
            {{"PHK1", WIRE_STORE, {0}, "parked-9"}, 32, 0, -EBADMSG},
            {{"PHK1", WIRE_STORE, {0}, "parked-9"}, 32, 2, -EBADMSG},
            {{"PHK1", WIRE_STORE, {0}, ""}, 32, 1, -EINVAL},
            {{"PHK1", WIRE_STORE, {0}, "Parked"}, 32, 1, -EINVAL},
            {{"PHK1", WIRE_STORE, {0}, "a\nFDSTOREREMOVE=1"}, 32, 1, -EINVAL},
            {{"PHK1", WIRE_REMOVE, {0}, "parked-0\0x"}, 32, 0, -EINVAL},
            {{"PHK1", WIRE_REMOVE, {0}, {[1] = 'a'}}, 32, 0, -EINVAL},
    };
    Serving s;
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    serving_begin(&s, SOON, LONG);
    store(&s, "parked-0", ends[1]);
    close(ends[1]);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int code = tried(&s, &cases[i].q, cases[i].n, cases[i].n_fds);
        if (code != cases[i].code)
            fail_msg("case %zu: code %d, wanted %d", i, code, cases[i].code);
        assert_int_equal(count(&s), 1);
    }
    char much[4096] = "PHK1\1";
    assert_int_equal(tried(&s, much, sizeof(much), 1), -EBADMSG);
    assert_false(is_closed(ends[0]));
    remove_all(&s, 1);
    assert_true(is_closed(ends[0]));
    serving_end(&s);
    close(ends[0]);
}

static void what_is_not_open_cannot_be_stored(void **state) {
    Serving s;
    Err err = {0};
    serving_begin(&s, SOON, LONG);
    store(&s, "parked-0", STDERR_FILENO);
    assert_int_equal(keeper_store(s.path, "parked-1", 9999, &err), -EBADF); /* not open */
    assert_int_equal(count(&s), 1);
    remove_all(&s, 1);
    serving_end(&s);
}

static void other_users_are_refused(void **state) {
    if (geteuid() != 0)
        skip(); /* cannot become another user */
    Serving s;
    serving_begin(&s, SOON, LONG);
    store(&s, "parked-0", STDERR_FILENO);
    pid_t pid = fork();
    if (pid == 0) {
        KeeperSet set;
        Err err = {0};
        bool good = setresuid(65534, 65534, 65534) == 0 &&
                    keeper_fetch(s.path, &set, &err) == -EACCES &&
                    keeper_remove(s.path, NULL, NULL, NULL) == -EACCES;
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    remove_all(&s, 1);
    serving_end(&s);
}

static void silent_clients_keep_nobody_away(void **state) {
    Serving s;
    int silent[SERVER_MAX_CLIENTS + 2];
    serving_begin(&s, SOON, 50 * 1000);
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        silent[i] = connect_to(&s);
    store(&s, "parked-0", STDERR_FILENO);
    remove_all(&s, 1);
    for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
        assert_true(is_ended(silent[i]));
        close(silent[i]);
    }
    serving_end(&s);
}

static void one_connection_may_ask_often(void **state) {
    const WireRequest q = {.magic = WIRE_MAGIC, .op = WIRE_LIST};
    WireAnswer a;
    Serving s;
    int fds[WIRE_MAX_FDS];
    size_t n_fds;
    serving_begin(&s, SOON, LONG);
    int c = connect_to(&s);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(wire_send(c, &q, sizeof(q), NULL, 0), 0);
        assert_int_equal(wire_receive(c, &a, sizeof(a), fds, &n_fds), WIRE_ANSWER_HEAD_BYTES);
        assert_int_equal(a.code, 0);
    }
    close(c);
    serving_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(stored_ones_come_back_by_name),
            cmocka_unit_test(it_stays_while_it_holds_something),
            cmocka_unit_test(as_many_as_fit_in_one_packet),
            cmocka_unit_test(malformed_requests_change_nothing),
            cmocka_unit_test(what_is_not_open_cannot_be_stored),
            cmocka_unit_test(other_users_are_refused),
            cmocka_unit_test(silent_clients_keep_nobody_away),
            cmocka_unit_test(one_connection_may_ask_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
