#include "test.h"

#include "canned.h"
#include "ctl/client.h"
#include "ctl/exit.h"

#include <sys/fsuid.h>
#include <sys/stat.h>

static bool always(void *context) {
    return true;
}

static int get(const CannedAnswer *answer, json_t **ret, Err *err) {
    Canned server;
    canned_start(&server, answer, 1);
    ClientOptions o = {.socket = server.path, .token = "secret"};
    Client *c = NULL;
    assert_int_equal(client_new(&o, &c, NULL), 0);
    int r = client_get(c, "/x", ret, err);
    assert_null(client_free(c));
    if (answer->answer[0])
        assert_non_null(strstr(server.requests[0], "\r\nAuthorization: Bearer secret\r\n"));
    canned_stop(&server);
    return r;
}

static void answers_are_told_apart(void **state) {
    static const struct {
        CannedAnswer answer;
        int code;
        const char *sentence; /* a part of it */
    } cases[] = {
            {{"GET /x ", CANNED_OK "{\"a\":1}"}, 0, ""},
            {{"GET /x ",
                     CANNED_HEAD(
                             "400 Bad Request") "{\"error\":{\"message\":\"steps is 0, 1 to 100 "
                                                "are allowed\",\"code\":\"invalid_value\"}}"},
                    CTL_REFUSED, "steps is 0, 1 to 100 are allowed (invalid_value, HTTP 400)"},
            {{"GET /x ", CANNED_HEAD("502 Bad Gateway") "<html>"}, CTL_REFUSED,
                    "answered with HTTP status 502"},
            {{"GET /x ", CANNED_HEAD("503 Service Unavailable")}, CTL_REFUSED,
                    "answered with HTTP status 503"},
            {{"GET /x ", CANNED_OK "not json"}, -EPROTO, "does not answer as preheatd does"},
            {{"GET /x ", CANNED_OK}, -EPROTO, "does not answer as preheatd does"},
            {{"GET /x ", ""}, CTL_UNREACHABLE, "no answer from socket '"},
            {{"GET /x ", "garbage\r\n\r\n"}, CTL_UNREACHABLE, "no answer from socket '"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *answer = NULL;
        Err err = {0};
        int r = get(&cases[i].answer, &answer, &err);
        if (r != cases[i].code)
            fail_msg("%zu: %d, %s", i, r, err_text(&err));
        assert_non_null(strstr(err_text(&err), cases[i].sentence));
        json_decref(answer);
    }
}

static void nobody_there(void **state) {
    ClientOptions o = {.socket = "/nowhere/api.sock"};
    Client *c = NULL;
    json_t *answer = NULL;
    Err err = {0};
    assert_int_equal(client_new(&o, &c, NULL), 0);
    assert_int_equal(client_get(c, "/x", &answer, &err), CTL_UNREACHABLE);
    assert_string_equal(err_text(&err),
            "nobody answers at socket '/nowhere/api.sock': No such file "
            "or directory; is preheatd-api.socket started?");
    assert_null(client_free(c));
}

static void a_closed_socket_is_no_absent_server(void **state) {
    Canned server;
    static const CannedAnswer none[1];
    canned_start(&server, none, 0);
    ClientOptions o = {.socket = server.path};
    Client *c = NULL;
    json_t *answer = NULL;
    Err err = {0};
    assert_int_equal(client_new(&o, &c, NULL), 0);
    assert_int_equal(chmod(server.path, 0), 0);
    (void)setfsuid(
            65534); /* of this thread, with what root may; nothing where the test is not root */
    int r = client_get(c, "/x", &answer, &err);
    (void)setfsuid(geteuid());
    assert_int_equal(r, CTL_UNREACHABLE);
    assert_true(strncmp(err_text(&err), "you may not use socket '", 24) == 0);
    assert_null(client_free(c));
    canned_stop(&server);
}

static void waiting_can_be_ended(void **state) {
    Canned server;
    static const CannedAnswer none[1];
    canned_start(&server, none, 0); /* listens, answers nobody */
    ClientOptions o = {.socket = server.path, .stop = always};
    Client *c = NULL;
    json_t *answer = NULL;
    assert_int_equal(client_new(&o, &c, NULL), 0);
    assert_int_equal(client_get(c, "/x", &answer, NULL), CTL_INTERRUPTED);
    assert_null(client_free(c));
    canned_stop(&server);
}

static void forms_carry_text_and_files(void **state) {
    static const CannedAnswer answer[] = {{"POST /v1/videos ", CANNED_OK "{}"}};
    char path[] = "/tmp/preheat-test-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "PICTURE", 7), 7);
    Canned server;
    canned_start(&server, answer, 1);
    ClientOptions o = {.socket = server.path};
    Client *c = NULL;
    json_t *got = NULL;
    const ClientPart parts[] = {{.name = "prompt", .text = "a \"red\" circle"},
            {.name = "input_reference", .file = path}};
    assert_int_equal(client_new(&o, &c, NULL), 0);
    assert_int_equal(client_post(c, "/v1/videos", parts, 2, &got, NULL), 0);
    assert_non_null(strstr(server.requests[0], "name=\"prompt\"\r\n\r\na \"red\" circle\r\n"));
    assert_non_null(strstr(server.requests[0], "name=\"input_reference\"; filename=\"image\"\r\n"));
    assert_non_null(strstr(server.requests[0], "\r\n\r\nPICTURE\r\n"));
    canned_stop(&server);

    assert_int_equal(unlink(path), 0);
    Err err = {0};
    assert_true(client_post(c, "/v1/videos", parts, 2, &got, &err) < 0);
    assert_non_null(strstr(err_text(&err), path));
    json_decref(got);
    assert_null(client_free(c));
    (void)close(fd);
}

static void bodies_go_to_files_only_when_good(void **state) {
    static const CannedAnswer good[] = {{"GET /v ", CANNED_OK "MP4"}},
                              bad[] = {{"GET /v ", CANNED_HEAD("404 Not Found") "no"}};
    FILE *f = tmpfile();
    assert_non_null(f);
    for (int i = 0; i < 2; i++) {
        Canned server;
        canned_start(&server, i ? bad : good, 1);
        ClientOptions o = {.socket = server.path};
        Client *c = NULL;
        assert_int_equal(client_new(&o, &c, NULL), 0);
        assert_int_equal(client_download(c, "/v", fileno(f), NULL), i ? CTL_REFUSED : 0);
        assert_null(client_free(c));
        canned_stop(&server);
    }
    char text[8] = "";
    assert_int_equal(pread(fileno(f), text, sizeof(text), 0), 3);
    assert_string_equal(text, "MP4");
    (void)fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(answers_are_told_apart),
            cmocka_unit_test(nobody_there),
            cmocka_unit_test(a_closed_socket_is_no_absent_server),
            cmocka_unit_test(waiting_can_be_ended),
            cmocka_unit_test(forms_carry_text_and_files),
            cmocka_unit_test(bodies_go_to_files_only_when_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
