#include "serving.h"

static int systemd = -1;

/* "@..." of a datagram socket that stands for systemd's. */
static void listen_for_datagrams(char address[static 32]) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(address, 32, "@preheat-backup-%d", getpid());
    memcpy(a.sun_path + 1, address + 1, strlen(address) - 1);
    systemd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
    assert_int_equal(bind(systemd, (struct sockaddr *)&a, size), 0);
}

static const char *next(int *ret_fd) {
    static char text[200];
    int fds[WIRE_MAX_FDS];
    size_t n_fds = 0;
    ssize_t n = wire_receive(systemd, text, sizeof(text) - 1, fds, &n_fds);
    assert_true(n > 0 && n_fds <= 1);
    text[n] = '\0';
    *ret_fd = n_fds ? fds[0] : -1;
    return text;
}

static void *settle(void *context) {
    static int r;
    r = backup_settle(context, 5000000);
    return &r;
}

static void copies_go_to_systemd(void **state) {
    char address[32], name[WIRE_NAME_SIZE];
    Backup b;
    int fd;
    listen_for_datagrams(address);
    backup_open(&b, address);
    assert_true(b.socket >= 0);
    assert_true(wire_name_set(name, "parked-7"));
    backup_put(&b, name, STDERR_FILENO);
    assert_string_equal(next(&fd), "FDSTORE=1\nFDPOLL=0\nFDNAME=parked-7");
    assert_true(fd >= 0);
    close(fd);
    backup_remove(&b, name);
    assert_string_equal(next(&fd), "FDSTOREREMOVE=1\nFDNAME=parked-7");
    assert_int_equal(fd, -1);

    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, settle, &b), 0);
    assert_string_equal(next(&fd), "BARRIER=1");
    assert_true(fd >= 0);
    close(fd); /* the answer */
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal(*(int *)result, 0);
    assert_int_equal(backup_settle(&b, 1000), -ETIMEDOUT); /* nobody closes this one */
    backup_close(&b);
    assert_int_equal(b.socket, -1);
    close(systemd);
}

static void without_systemd_nothing_is_copied(void **state) {
    static const char *const addresses[] = {NULL, "", "@", "relative", "/nonexistent/notify"};
    char name[WIRE_NAME_SIZE] = "parked-0";
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        Backup b;
        backup_open(&b, addresses[i]);
        assert_int_equal(b.socket, -1);
        backup_put(&b, name, STDERR_FILENO);
        backup_remove(&b, name);
        assert_int_equal(backup_settle(&b, 1000), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(copies_go_to_systemd),
            cmocka_unit_test(without_systemd_nothing_is_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
