/* test-stall PREHEAT-WARMUP STALL.so: a disk that stops answering while the manifest is made, and
 * while the segment is filled; the program is told to stop, and runs out of time. It ends soon, and
 * what it leaves is right. */
#include "base/clock.h"
#include "program.h"

#include <poll.h>

enum { SOON_SEC = 9 }; /* the program waits 5 s */

static int status_soon(pid_t pid, double *ret_sec) {
    uint64_t start = clock_usec();
    int status;
    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG);
        *ret_sec = (double)(clock_usec() - start) / 1e6;
        if (ended == pid)
            return status;
        if (*ret_sec > SOON_SEC) {
            (void)kill(pid, SIGKILL);
            (void)program_wait(pid);
            (void)fprintf(stderr, "still there after %d s\n", SOON_SEC);
            exit(1);
        }
        (void)ppoll(NULL, 0, &(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    }
}

static pid_t start_stalling(const Program *p, const char *after) {
    CHECK(setenv("STALL_AFTER", after, 1) == 0);
    pid_t pid = program_start(p, "threads");
    CHECK(unsetenv("STALL_AFTER") == 0);
    return pid;
}

/* Long enough to be where the disk stalls; if not, that is where it will be with the stop set. */
static void stop_it(pid_t pid) {
    (void)ppoll(NULL, 0, &(struct timespec){.tv_nsec = 500 * 1000 * 1000}, NULL);
    CHECK(kill(pid, SIGTERM) == 0);
    (void)ppoll(NULL, 0, &(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    CHECK(kill(pid, SIGTERM) == 0); /* does not begin anew */
}

static void stop(const Program *p, const char *after, const char *where) {
    double sec;
    pid_t pid = start_stalling(p, after);
    stop_it(pid);
    int status = status_soon(pid, &sec);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    (void)printf("told to stop while %s: ended %.1f s later\n", where, sec);
}

static void run_out_of_time(Program *p) {
    double sec;
    size_t n;
    model_text(&p->model, "preheat.conf",
            "[warmup]\nchunk_size = 2M\nread_size = 64K\nqueue_depth = 2\nthreads = 2\n"
            "free_memory_floor = 16M\ntimeout = 1s\n");
    int status = status_soon(start_stalling(p, "100"), &sec);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    (void)printf("out of time after 1 s: ended after %.1f s\n", sec);
    CHECK(program_look(p, &n) >= 1);
}

int main(int argc, char **argv) {
    Program p;
    char segment[64];
    size_t n;
    CHECK(argc == 3);
    (void)snprintf(segment, sizeof(segment), "/dev/shm/stall-%d", getpid());
    program_make(&p, argv[1], segment);
    CHECK(setenv("LD_PRELOAD", argv[2], 1) == 0);
    stop(&p, "0", "the manifest is made");
    CHECK(program_wait(program_start(&p, "threads")) == 0);
    CHECK(segment_evict(p.segment, NULL) == 0);
    stop(&p, "100", "the segment is filled");
    CHECK(program_look(&p, &n) >= 1);
    CHECK(segment_evict(p.segment, NULL) == 0);
    run_out_of_time(&p);
    CHECK(program_wait(program_start(&p, "threads")) == 0);
    CHECK((size_t)program_look(&p, &n) == n);
    program_done(&p);
    return 0;
}
