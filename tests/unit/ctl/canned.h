/* canned - a server of fixed answers on a unix socket, for what a real one never says. */
#ifndef PREHEAT_UNIT_CTL_CANNED_H
#define PREHEAT_UNIT_CTL_CANNED_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* One connection: what it must ask, and what it gets, head and all; "" hangs up at once. */
typedef struct CannedAnswer {
    const char *request; /* its beginning, "GET /healthz " */
    const char *answer;
} CannedAnswer;

typedef struct Canned {
    char dir[32], path[64];
    int fd;
    pthread_t thread;
    const CannedAnswer *answers;
    size_t n_answers, n_served;
    char requests[16][4096]; /* as they came, cut */
} Canned;

/* Reads a head, and as much of a body as Content-Length says. */
static inline void canned_read(int fd, char *text, size_t size) {
    size_t n = 0, wanted = size - 1;
    while (n < wanted) {
        ssize_t got = read(fd, text + n, wanted - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        text[n] = '\0';
        const char *end = strstr(text, "\r\n\r\n"), *length = strstr(text, "Content-Length: ");
        if (end) {
            size_t total = (size_t)(end - text) + 4 +
                           (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
            wanted = total < size - 1 ? total : size - 1;
        }
    }
    text[n] = '\0';
}

static inline void *canned_serve(void *context) {
    Canned *c = context;
    for (size_t i = 0; i < c->n_answers; i++) {
        int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            break;
        if (c->answers[i].answer[0]) {
            canned_read(fd, c->requests[i], sizeof(c->requests[i]));
            (void)!write(fd, c->answers[i].answer, strlen(c->answers[i].answer));
        }
        c->n_served++;
        (void)close(fd);
    }
    return NULL;
}

static inline void canned_start(Canned *c, const CannedAnswer *answers, size_t n) {
    *c = (Canned){.dir = "/tmp/preheat-test-XXXXXX", .answers = answers, .n_answers = n};
    assert_non_null(mkdtemp(c->dir));
    (void)snprintf(c->path, sizeof(c->path), "%s/api.sock", c->dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", c->path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    assert_int_equal(bind(c->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(c->fd, 16), 0);
    assert_int_equal(pthread_create(&c->thread, NULL, canned_serve, c), 0);
}

/* Everything was asked, in order. */
static inline void canned_stop(Canned *c) {
    (void)shutdown(c->fd, SHUT_RDWR);
    assert_int_equal(pthread_join(c->thread, NULL), 0);
    assert_int_equal(c->n_served, c->n_answers);
    for (size_t i = 0; i < c->n_answers; i++)
        if (c->answers[i].answer[0] &&
                strncmp(c->requests[i], c->answers[i].request, strlen(c->answers[i].request)) != 0)
            fail_msg("request %zu is '%.60s', wanted '%s'", i, c->requests[i],
                    c->answers[i].request);
    (void)close(c->fd);
    (void)unlink(c->path);
    (void)rmdir(c->dir);
}

#define CANNED_HEAD(status) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n"
#define CANNED_OK CANNED_HEAD("200 OK")

#endif
