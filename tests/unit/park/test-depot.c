#include "test.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "keeper/server.h"
#include "park/depot.h"
#include "park/note.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static char dir[] = "/tmp/preheat-depot-XXXXXX";
static char socket_path[64]; /* the keeper's; that it runs is told by `dir` */

static int setup(void **state) {
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(socket_path, sizeof(socket_path), "%s.sock", dir);
    return 0;
}

static int teardown(void **state) {
    return rmdir(dir);
}

static void what_systemd_offers_decides(void **state) {
    static const struct {
        const char *fdstore, *socket;
        const DepotKind *kind;
        size_t room;
    } cases[] = {
            {"251", "/run/k.sock", &depot_fdstore, 251},
            {"251", NULL, &depot_fdstore, 251},
            {NULL, "/run/k.sock", &depot_keeper, WIRE_MAX_KEPT},
            {"0", "/run/k.sock", &depot_keeper, WIRE_MAX_KEPT},
            {NULL, "", &depot_fdstore, 0},
            {NULL, NULL, &depot_fdstore, 0},
    };
    Listen listen;
    listen_init(&listen);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Depot d;
        (void)unsetenv("FDSTORE");
        if (cases[i].fdstore)
            (void)setenv("FDSTORE", cases[i].fdstore, 1);
        depot_choose(&d, &listen, cases[i].socket);
        assert_ptr_equal(d.kind, cases[i].kind);
        assert_int_equal(d.room, cases[i].room);
    }
    (void)unsetenv("FDSTORE");
}

static void systemds_come_with_the_sockets(void **state) {
    Depot d;
    Listen listen;
    int fd[DEPOT_MAX];
    bool any;
    listen_init(&listen);
    listen.parked[0] = dup(STDERR_FILENO);
    listen.parked[250] = dup(STDERR_FILENO);
    listen.has_parked = true;
    int first = listen.parked[0], last = listen.parked[250];
    depot_choose(&d, &listen, NULL);
    assert_int_equal(depot_fetch(&d, fd, &any, NULL), 0);
    assert_true(any && fd[0] == first && fd[250] == last && fd[1] == -1);
    listen_done(&listen); /* has them no more */
    assert_true(fcntl(first, F_GETFD) >= 0);
    assert_int_equal(close(first) + close(last), 0);
}

static void tell_nobody(int priority, const char *text) {}

typedef struct Keeper {
    ServerOptions options;
    Backup backup;
    Shelf shelf;
    int result;
} Keeper;

static void *run(void *context) {
    Keeper *k = context;
    k->result = server_run(&k->options, &k->shelf, NULL);
    return NULL;
}

static void keep(Keeper *k, const char *text, int fd) {
    char name[WIRE_NAME_SIZE];
    assert_true(wire_name_set(name, text));
    assert_int_equal(shelf_put(&k->shelf, name, dup(fd)), 0);
}

static void the_keepers_are_put_fetched_and_forgotten(void **state) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    Keeper k = {.backup = {.socket = -1}};
    pthread_t thread;
    Depot d;
    Listen sockets;
    int fd[DEPOT_MAX];
    bool any;
    listen_init(&sockets);
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
    k.options = (ServerOptions){.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
            .uid = geteuid(),
            .idle_usec = 30 * USEC_PER_MSEC,
            .client_usec = USEC_PER_SEC,
            .backup = &k.backup,
            .tell = tell_nobody};
    assert_int_equal(bind(k.options.listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen_parked_number("parked-251"), -1);
    assert_int_equal(listen(k.options.listen_fd, 8), 0);
    keep(&k, "parked-251", STDERR_FILENO); /* of an earlier version */
    keep(&k, "something", STDERR_FILENO);
    assert_int_equal(pthread_create(&thread, NULL, run, &k), 0);

    depot_choose(&d, &sockets, socket_path);
    assert_int_equal(depot_fetch(&d, fd, &any, NULL), 0);
    assert_true(any);
    for (size_t i = 0; i < DEPOT_MAX; i++)
        assert_int_equal(fd[i], -1);
    assert_int_equal(depot_put(&d, 0, STDERR_FILENO, NULL), 0);
    assert_int_equal(depot_put(&d, 250, STDERR_FILENO, NULL), 0);
    assert_int_equal(depot_fetch(&d, fd, &any, NULL), 0);
    assert_true(any && fd[0] >= 0 && fd[250] >= 0 && fd[1] == -1);
    assert_int_equal(close(fd[0]) + close(fd[250]), 0);
    assert_int_equal(depot_forget(&d, 1, NULL), 0); /* what is of no use, too */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(k.result, 0);
    assert_int_equal(k.shelf.n, 0);
    (void)close(k.options.listen_fd);
    (void)unlink(socket_path);
}

static void a_keeper_that_does_not_run_is_not_woken(void **state) {
    Depot d;
    Listen listen;
    int fd[DEPOT_MAX];
    bool any;
    listen_init(&listen);
    depot_choose(&d, &listen, "/nonexistent/keeper.sock"); /* without the directory beside it */
    assert_int_equal(depot_fetch(&d, fd, &any, NULL), 0);
    assert_false(any);
    assert_int_equal(depot_forget(&d, 5, NULL), 0);
    Err err = {0};
    assert_int_equal(depot_put(&d, 0, STDERR_FILENO, &err), -ENOENT);
    assert_non_null(strstr(err_text(&err), "'/nonexistent/keeper.sock'"));
}

static void the_card_is_noted(void **state) {
    static const uint8_t uuid[16] = {
            0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0, 1, 2, 3, 4, 5, 6, 0xff};
    static const uint8_t none[16];
    char card[NOTE_CARD_SIZE];
    Err err = {0};
    assert_int_equal(note_read(dir, card, NULL), -ENOENT);
    mode_t mask = umask(0077);
    assert_int_equal(note_write(dir, uuid, NULL), 0);
    (void)umask(mask);
    assert_int_equal(note_read(dir, card, NULL), 0);
    assert_string_equal(card, "GPU-12345678-9abc-def0-0001-0203040506ff");
    _cleanup_free_ char *path = str_format("%s/parked-card", dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640); /* the group's to read in spite of the umask */
    assert_int_equal(note_write(dir, none, NULL), 0);
    assert_int_equal(note_read(dir, card, NULL), 0);
    assert_string_equal(card, "");
    assert_int_equal(truncate(path, 7), 0);
    assert_int_equal(note_read(dir, card, &err), -EBADMSG);
    assert_non_null(strstr(err_text(&err), "wanted is a GPU's UUID"));
    assert_int_equal(truncate(path, 99), 0);
    assert_int_equal(note_read(dir, card, NULL), -EFBIG);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(what_systemd_offers_decides),
            cmocka_unit_test(systemds_come_with_the_sockets),
            cmocka_unit_test(the_keepers_are_put_fetched_and_forgotten),
            cmocka_unit_test(a_keeper_that_does_not_run_is_not_woken),
            cmocka_unit_test(the_card_is_noted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
