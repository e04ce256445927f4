/* serving - a keeper on a thread of the test, at a socket below /tmp. */
#ifndef PREHEAT_UNIT_SERVING_H
#define PREHEAT_UNIT_SERVING_H

#include "test.h"

#include "keeper/server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct Serving {
    char dir[32], path[48];
    Backup backup;
    Shelf shelf;
    ServerOptions options;
    pthread_t thread;
    int result;
} Serving;

static void tell_nobody(int priority, const char *text) {}

static void *serve_until_idle(void *context) {
    Serving *s = context;
    s->result = server_run(&s->options, &s->shelf, NULL);
    return NULL;
}

static inline int listen_at(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 16) == 0);
    assert_int_equal(chmod(path, 0777), 0);
    return fd;
}

/* idle_usec: from the last client of an empty keeper on. */
static inline void serving_begin(Serving *s, uint64_t idle_usec, uint64_t client_usec) {
    *s = (Serving){.dir = "/tmp/preheat-keeper-XXXXXX", .backup = {.socket = -1}};
    assert_non_null(mkdtemp(s->dir));
    assert_int_equal(chmod(s->dir, 0755), 0);
    (void)snprintf(s->path, sizeof(s->path), "%s/k", s->dir);
    s->options = (ServerOptions){.listen_fd = listen_at(s->path),
            .uid = geteuid(),
            .idle_usec = idle_usec,
            .client_usec = client_usec,
            .backup = &s->backup,
            .tell = tell_nobody};
    assert_int_equal(pthread_create(&s->thread, NULL, serve_until_idle, s), 0);
}

/* Waits until it is idle. */
static inline void serving_end(Serving *s) {
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(s->result, 0);
    assert_int_equal(s->shelf.n, 0);
    (void)close(s->options.listen_fd);
    (void)unlink(s->path);
    (void)rmdir(s->dir);
}

/* A pipe tells when its last writing end is closed: by its reading end's end. */
static inline bool is_closed(int reading_end) {
    char c;
    ssize_t n = read(reading_end, &c, 1);
    assert_true(n == 0 || (n < 0 && errno == EAGAIN));
    return n == 0;
}

#endif
