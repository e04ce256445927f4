/* test-kill PREHEAT-WARMUP [ROUNDS], 100 times otherwise: start the warm-up, kill -9 it at a random
 * moment, look at what it left. Then SIGTERM, then a run that finishes. As root the segment is in
 * two files: a file system of 12 MiB holds the first chunks, /dev/shm the others. */
#include "base/clock.h"
#include "program.h"

#include <poll.h>
#include <sys/mount.h>

static uint64_t seed = 42;

static uint64_t pick(uint64_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 20) % n;
}

static void pass(uint64_t usec) {
    struct timespec t = {.tv_nsec = (long)usec * 1000};
    (void)ppoll(NULL, 0, &t, NULL);
}

static char dir[] = "/tmp/preheat-kill-XXXXXX";
static bool spread;

static void leave(void) {
    if (spread)
        (void)umount2(dir, MNT_DETACH);
    (void)rmdir(dir);
}

static size_t shares(const Program *p) {
    SegmentShare share[N_PLACES];
    Manifest *m;
    Segment *s;
    CHECK(manifest_load(p->kept, &m, NULL) == 0);
    int fd = weights_open(-1, p->segment, NULL);
    CHECK(fd >= 0 && segment_open(fd, p->segment, m, &s, NULL) == 0);
    size_t n = segment_shares(s, share);
    segment_close(s);
    close(fd);
    manifest_free(m);
    return n;
}

static bool exists(const Program *p, int place) {
    char *path = places_path(p->segment, place);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

int main(int argc, char **argv) {
    static const char *const readers[] = {"io_uring", "threads"};
    Program p;
    char segment[64];
    CHECK(argc == 2 || argc == 3);
    int rounds = argc == 3 ? atoi(argv[2]) : 100;
    CHECK(rounds > 0);
    CHECK(mkdtemp(dir));
    spread = mount("none", dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=12M") == 0;
    (void)atexit(leave);
    (void)snprintf(segment, sizeof(segment), "%s/kill-%d", spread ? dir : "/dev/shm", getpid());
    program_make(&p, argv[1], segment);
    uint64_t start = clock_usec();
    CHECK(program_wait(program_start(&p, "auto")) == 0); /* makes the manifest too */
    uint64_t whole = clock_usec() - start;
    CHECK(!spread || shares(&p) == 2);
    size_t n = 0;
    long partial = 0, none = 0, full = 0;
    for (int i = 0; i < rounds; i++) {
        if (i % 3 == 0)
            (void)unlink(p.segment); /* leaves the second file without its first */
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

    CHECK(segment_evict(p.segment, NULL) == 0);
    pid_t pid = program_start(&p, "auto");
    pass(whole / 4);
    (void)kill(pid, SIGTERM);
    int status = program_wait(pid);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGTERM : WEXITSTATUS(status) == 0);
    (void)program_look(&p, &n);

    CHECK(program_wait(program_start(&p, "auto")) == 0);
    CHECK((size_t)program_look(&p, &n) == n);
    CHECK(!spread || shares(&p) == 2);
    program_done(&p);
    for (int place = 0; place < N_PLACES; place++)
        CHECK(!exists(&p, place));
    return 0;
}
