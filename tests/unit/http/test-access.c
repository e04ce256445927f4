#include "test.h"

#include "base/macro.h"
#include "http/access.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static const HttpAccess open_access = {.hosts = "second.example  video.example [fd00::1]"};
static const HttpAccess guarded = {.token = "secret"};
static const HttpPeer loopback = {.local_loopback = true}, outside = {0};

static void loopback_wants_its_names(void **state) {
    static const struct {
        const char *host;
        int r;
    } cases[] = {{"localhost", 0}, {"LocalHost:8484", 0}, {"127.0.0.1:1", 0}, {"[::1]", 0},
            {"[::1]:8484", 0}, {"video.example", 0}, {"VIDEO.example:443", 0}, {NULL, 0},
            {"second.example", 0}, {"[fd00::1]:80", 0}, {"video.exampl", -EPERM}, {" ", -EPERM},
            {"second.example  video.example", -EPERM}, {"", -EPERM}, {"evil.example", -EPERM},
            {"localhost.evil.example", -EPERM}, {"127.0.0.1.evil.example", -EPERM},
            {"[::1].evil", -EPERM}, {"[::1", -EPERM}, {"localhost:x", -EPERM},
            {"localhost:1:2", -EPERM}, {"::1", -EPERM}, {"localhos", -EPERM},
            {"127.0.0.2", -EPERM}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        HttpCredentials c = {.host = cases[i].host};
        int r = http_access_check(&open_access, &loopback, &c, true, NULL);
        if (r != cases[i].r)
            fail_msg("'%s' is %d", cases[i].host, r);
        assert_int_equal(http_access_check(&open_access, &outside, &c, true, NULL), 0);
    }
}

static void foreign_origins_are_refused(void **state) {
    static const struct {
        const char *origin;
        int r;
    } cases[] = {{"http://localhost:3000", 0}, {"https://video.example", 0},
            {"http://other.example:8484", 0}, {"http://other.example", -EPERM},
            {"http://evil.example", -EPERM}, {"null", -EPERM}, {"", -EPERM}, {"http://", -EPERM},
            {"file://", -EPERM}, {"http://localhost.evil.example", -EPERM}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        HttpCredentials c = {.host = "other.example:8484", .origin = cases[i].origin};
        int r = http_access_check(&open_access, &outside, &c, true, NULL);
        if (r != cases[i].r)
            fail_msg("'%s' is %d", cases[i].origin, r);
    }
}

static void tokens(void **state) {
    static const struct {
        const char *authorization;
        int r;
    } cases[] = {{"Bearer secret", 0}, {"bearer secret", 0}, {NULL, -EKEYREJECTED},
            {"", -EKEYREJECTED}, {"Bearer ", -EKEYREJECTED}, {"Bearer secre", -EKEYREJECTED},
            {"Bearer secrets", -EKEYREJECTED}, {"Bearer secretsecret", -EKEYREJECTED},
            {"Bearer Secret", -EKEYREJECTED}, {"Basic secret", -EKEYREJECTED},
            {"secret", -EKEYREJECTED}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        HttpCredentials c = {.authorization = cases[i].authorization};
        assert_int_equal(http_access_check(&guarded, &loopback, &c, true, NULL), cases[i].r);
        assert_int_equal(http_access_check(&guarded, &loopback, &c, false, NULL), 0);
    }
}

static void unix_sockets_need_nothing(void **state) {
    HttpCredentials none = {.host = "preheat"};
    const HttpPeer peer = {.is_unix = true};
    assert_int_equal(http_access_check(&guarded, &peer, &none, true, NULL), 0);
    Err err = {0};
    assert_int_equal(http_access_check(&guarded, &loopback, &none, true, &err), -EPERM);
    assert_string_equal(err_text(&err), "the host 'preheat' is not a name of this server");
}

static void sockets_tell_who(void **state) {
    int pair[2];
    HttpPeer peer;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(http_peer_of(pair[0], &peer), 0);
    assert_true(peer.is_unix);
    (void)close(pair[0]);
    (void)close(pair[1]);
    static const struct {
        in_addr_t address;
        bool loopback;
    } cases[] = {{INADDR_LOOPBACK, true}, {INADDR_ANY, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(cases[i].address)};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(http_peer_of(fd, &peer), 0);
        assert_true(!peer.is_unix && peer.local_loopback == cases[i].loopback);
        (void)close(fd);
    }
    assert_true(http_peer_of(-1, &peer) < 0);
}

/* 127.0.0.0/8 has sixteen million addresses, which are all this machine's. */
static void the_loopback_is_one_client(void **state) {
    static const in_addr_t from[] = {INADDR_LOOPBACK, INADDR_LOOPBACK + 4};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&a, &n), 0);
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(from[i])};
        int client = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(client, (struct sockaddr *)&own, sizeof(own)), 0);
        assert_int_equal(connect(client, (struct sockaddr *)&a, sizeof(a)), 0);
        int accepted = accept(listening, NULL, NULL);
        HttpPeer peer;
        assert_int_equal(http_peer_of(accepted, &peer), 0);
        assert_string_equal(peer.name, "loopback");
        (void)close(accepted);
        (void)close(client);
    }
    (void)close(listening);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(loopback_wants_its_names),
            cmocka_unit_test(foreign_origins_are_refused),
            cmocka_unit_test(tokens),
            cmocka_unit_test(unix_sockets_need_nothing),
            cmocka_unit_test(sockets_tell_who),
            cmocka_unit_test(the_loopback_is_one_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
