/* test-kill PREHEAT-WARMUP [ROUNDS], 100 times otherwise: start the warm-up, kill -9 it at a random
 * moment, look at what it left. Then SIGTERM, then a run that finishes. */
#include "base/clock.h"
#include "program.h"

#include <poll.h>

static uint64_t seed = 42;

static uint64_t pick(uint64_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 20) % n;
}

static void pass(uint64_t usec) {
    struct timespec t = {.tv_nsec = (long)usec * 1000};
    (void)ppoll(NULL, 0, &t, NULL);
}

int main(int argc, char **argv) {
    static const char *const readers[] = {"io_uring", "threads"};
    Program p;
    CHECK(argc == 2 || argc == 3);
    int rounds = argc == 3 ? atoi(argv[2]) : 100;
    CHECK(rounds > 0);
    program_make(&p, argv[1], "/dev/shm/preheat-test-kill");
    (void)unlink(p.segment);
    uint64_t start = clock_usec();
    CHECK(program_wait(program_start(&p, "auto")) == 0); /* makes the manifest too */
    uint64_t whole = clock_usec() - start;
    size_t n = 0;
    long partial = 0, none = 0, full = 0;
    for (int i = 0; i < rounds; i++) {
        if (i % 3 == 0)
            (void)unlink(p.segment);
        if (i % 25 == 0)
            (void)unlink(p.kept); /* the manifest's making is killed too */
        pid_t pid = program_start(&p, readers[i % 2]);
        pass(pick(whole));
        (void)kill(pid, SIGKILL);
        (void)program_wait(pid);
        long ready = program_look(&p, &n);
        none += ready < 0;
        full += ready >= 0 && (size_t)ready == n;
        partial += ready >= 0 && (size_t)ready < n;
    }
    (void)printf("killed %d times: %ld without a segment, %ld partial, %ld complete\n", rounds,
            none, partial, full);
    CHECK(partial > 0);

    (void)unlink(p.segment);
    pid_t pid = program_start(&p, "auto");
    pass(whole / 4);
    (void)kill(pid, SIGTERM);
    int status = program_wait(pid);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGTERM : WEXITSTATUS(status) == 0);
    (void)program_look(&p, &n);

    CHECK(program_wait(program_start(&p, "auto")) == 0);
    CHECK((size_t)program_look(&p, &n) == n);
    program_done(&p);
    return 0;
}
