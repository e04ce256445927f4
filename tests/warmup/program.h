/* program - runs preheat-warmup on a small model and looks at the segment it leaves. */
#ifndef PREHEAT_TESTS_WARMUP_PROGRAM_H
#define PREHEAT_TESTS_WARMUP_PROGRAM_H

#undef NDEBUG

#include "../unit/store/model.h"
#include "store/segment.h"
#include "store/weights.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

#define CHECK(e)                                                                                   \
    do {                                                                                           \
        if (!(e)) {                                                                                \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #e);                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

typedef struct Program {
    const char *path; /* of preheat-warmup */
    Model model;
    char config[128], kept[128], segment[128];
} Program;

/* Chunks of 2 MiB and one small read at a time: many moments to be killed in. */
static inline void program_make(Program *p, const char *path, const char *segment) {
    p->path = path;
    model_make_whole(&p->model, 700);
    (void)snprintf(p->config, sizeof(p->config), "%s/preheat.conf", p->model.dir);
    (void)snprintf(p->kept, sizeof(p->kept), "%s/x.manifest", p->model.dir);
    (void)snprintf(p->segment, sizeof(p->segment), "%s", segment);
    model_text(&p->model, "preheat.conf",
            "[warmup]\nchunk_size = 2M\nread_size = 64K\nqueue_depth = 2\nthreads = 2\n"
            "free_memory_floor = 16M\n");
}

static inline pid_t program_start(const Program *p, const char *reader) {
    const char *args[] = {p->path, "--config", p->config, "--model", p->model.dir, "--segment",
            p->segment, "--manifest", p->kept, "--reader", reader, NULL};
    pid_t pid;
    CHECK(posix_spawn(&pid, p->path, NULL, NULL, (char **)args, environ) == 0);
    return pid;
}

static inline int program_wait(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

/* Every ready chunk holds what the manifest says. Returns their number, -1 without a segment. */
static inline long program_look(const Program *p, size_t *ret_n_chunks) {
    Manifest *m;
    Segment *s;
    Err err = {0};
    if (manifest_load(p->kept, &m, NULL) < 0)
        return -1;
    *ret_n_chunks = manifest_n_chunks(m);
    int fd = weights_open(-1, p->segment, &err);
    if (fd < 0) {
        CHECK(fd == -ENOENT);
        manifest_free(m);
        return -1;
    }
    CHECK(segment_open(fd, p->segment, m, &s, &err) == 0);
    long n_ready = 0;
    for (size_t i = 0; i < manifest_n_chunks(m); i++) {
        if (segment_state(s, i) != SEGMENT_READY)
            continue;
        CHECK(segment_verify(s, i, &err) == 0);
        n_ready++;
    }
    segment_close(s);
    close(fd);
    manifest_free(m);
    return n_ready;
}

static inline void program_done(Program *p) {
    (void)segment_evict(p->segment, NULL);
    model_done(&p->model);
}

#endif
