#include "test.h"

#include "remote/reply.h"

#include <errno.h>
#include <string.h>

static const ReplyWanted part = {.first = 100, .last = 199, .total = 1000};
static const ReplyWanted file = {.first = 0, .last = 999, .total = 1000, .whole = true};
static const ReplyWanted rest = {.first = 400, .last = 999, .total = 1000, .whole = true};
static const ReplyWanted unknown = {.last = REPLY_UNKNOWN, .total = REPLY_UNKNOWN, .whole = true};

/* Lines with '\n' between, as a server's head. */
static Reply reply_of(const char *head) {
    Reply r;
    reply_begin(&r);
    while (*head) {
        size_t n = strcspn(head, "\n");
        reply_line(&r, head, n);
        head += n + (head[n] == '\n');
    }
    return r;
}

static void answers_that_will_do(void **state) {
    static const struct {
        const ReplyWanted *wanted;
        const char *head;
        uint64_t first;
    } cases[] = {
            {&part, "HTTP/1.1 206 Partial Content\nContent-Range: bytes 100-199/1000\r\n", 100},
            {&part, "HTTP/1.1 206\ncontent-range:bytes 100-149/1000", 100},
            {&part, "HTTP/1.1 206\nCONTENT-RANGE:  BYTES  100-199/* ", 100},
            {&part,
                    "HTTP/1.1 302\nContent-Range: x\nHTTP/1.1 206\nContent-Range: bytes "
                    "100-199/1000",
                    100},
            {&part, "HTTP/1.1 206\nContent-Encoding: identity\nContent-Range: bytes 100-199/1000",
                    100},
            {&file, "HTTP/1.1 200 OK\nContent-Length: 1000", 0},
            {&file, "HTTP/1.1 200 OK", 0},
            {&file, "HTTP/1.1 206\nContent-Range: bytes 0-999/1000", 0},
            {&rest, "HTTP/1.1 200 OK\nContent-Length: 1000", 0},
            {&rest, "HTTP/1.1 206\nContent-Range: bytes 400-999/1000", 400},
            {&unknown, "HTTP/1.1 200 OK\nContent-Length: 5", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Reply r = reply_of(cases[i].head);
        uint64_t first = 77;
        Err err = {0};
        if (reply_check(&r, cases[i].wanted, &first, &err) < 0)
            fail_msg("%s: %s", cases[i].head, err_text(&err));
        assert_int_equal(first, cases[i].first);
    }
}

static void answers_that_will_not(void **state) {
    static const struct {
        const ReplyWanted *wanted;
        const char *head;
        int result;
        const char *words;
    } cases[] = {
            {&part, "HTTP/1.1 206", -EBADMSG, "''"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 101-199/1000", -EBADMSG,
                    "'bytes 101-199/1000', bytes 100 to 199 were asked for"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 0-99/1000", -EBADMSG, "were asked for"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 100-200/1000", -EBADMSG, "asked for"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 199-100/1000", -EBADMSG,
                    "wanted was 'bytes 100-199/1000'"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 100-199/150", -EBADMSG, "wanted was"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 100-199/1000x", -EBADMSG, "wanted was"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes -100-199/1000", -EBADMSG, "wanted was"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 100-99999999999999999999/*", -EBADMSG,
                    "wanted was"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes */1000", -EBADMSG, "wanted was"},
            {&part,
                    "HTTP/1.1 206\nContent-Range: bytes 100-199/1000\nContent-Range: bytes "
                    "100-199/1000",
                    -EBADMSG, "wanted was"},
            {&part, "HTTP/1.1 206\nContent-Range: bytes 100-199/2000", -ESTALE,
                    "has 2000 bytes, the manifest says 1000"},
            {&part, "HTTP/1.1 206\nContent-Encoding: gzip\nContent-Range: bytes 100-199/1000",
                    -EBADMSG, "encoded ('gzip')"},
            {&part, "HTTP/1.1 200 OK", -EOPNOTSUPP,
                    "ignores ranges: it answered 200 when asked "
                    "for bytes 100 to 199"},
            {&file, "HTTP/1.1 200 OK\nContent-Length: 999", -ESTALE, "has 999 bytes"},
            {&unknown, "HTTP/1.1 206\nContent-Range: bytes 0-4/5", -EBADMSG, "is a part"},
            {&part, "HTTP/1.1 416\nContent-Range: bytes */90", -ESTALE,
                    "has 90 bytes, the manifest says 1000"},
            {&part, "HTTP/1.1 416", -ESTALE, "no bytes 100 to 199"},
            {&part, "HTTP/1.1 401 Unauthorized", -EACCES, "HTTP 401"},
            {&part, "HTTP/1.1 403 Forbidden", -EACCES, "HTTP 403"},
            {&part, "HTTP/1.1 404 Not Found", -ENOENT, "HTTP 404"},
            {&part, "HTTP/1.1 301 Moved", -EPROTO, "HTTP 301"},
            {&part, "HTTP/1.1 204", -EPROTO, "status 204, wanted was 206 or 200"},
            {&part, "HTTP/1.1 abc", -EPROTO, "status 0"},
            {&part, "HTTP/1.1 429", -EAGAIN, "HTTP 429"},
            {&part, "HTTP/1.1 503", -EAGAIN, "HTTP 503"},
            {&part, "", -EPROTO, "status 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Reply r = reply_of(cases[i].head);
        uint64_t first = 77;
        Err err = {0};
        int result = reply_check(&r, cases[i].wanted, &first, &err);
        if (result != cases[i].result || !strstr(err_text(&err), cases[i].words))
            fail_msg("%s: %d, %s", cases[i].head, result, err_text(&err));
        assert_int_equal(first, 77);
    }
}

static void long_lines_are_cut(void **state) {
    char line[4096];
    Reply r;
    reply_begin(&r);
    memset(line, 'x', sizeof(line));
    reply_line(&r, line, sizeof(line));
    memcpy(line, "Content-Range: bytes 0-1/", 25);
    reply_line(&r, line, sizeof(line));
    assert_true(r.range_bad);
    memcpy(line, "Content-Encoding: ", 18);
    reply_line(&r, line, sizeof(line));
    assert_int_equal(strlen(r.encoding_text), 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(answers_that_will_do),
            cmocka_unit_test(answers_that_will_not),
            cmocka_unit_test(long_lines_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
