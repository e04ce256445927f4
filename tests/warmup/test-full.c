/* A disk without room for the manifest, and a model's file that is not there: the reason is told,
 * and what was good stays. */
#include "program.h"

#include <fcntl.h>
#include <sys/mount.h>

enum { SKIP = 77 };

static char dir[] = "/tmp/preheat-full-XXXXXX";

static void leave(void) {
    (void)umount2(dir, MNT_DETACH);
    (void)rmdir(dir);
}

/* What the program writes to standard error, and its exit status. */
static int run(const Program *p, char *said, size_t size) {
    int fds[2];
    CHECK(pipe(fds) == 0);
    int saved = dup(2);
    CHECK(dup2(fds[1], 2) == 2);
    pid_t pid = program_start(p, "auto");
    CHECK(dup2(saved, 2) == 2);
    close(saved);
    close(fds[1]);
    size_t used = 0;
    for (ssize_t n; used + 1 < size && (n = read(fds[0], said + used, size - 1 - used)) > 0;)
        used += (size_t)n;
    said[used] = '\0';
    close(fds[0]);
    int status = program_wait(pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void fill_disk(const char *path) {
    static const char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    CHECK(errno == ENOSPC);
    close(fd);
}

int main(int argc, char **argv) {
    Program p;
    char said[4096], filler[64], segment[64], file[128], moved[160];
    size_t n;
    CHECK(argc == 2);
    CHECK(mkdtemp(dir));
    if (mount("none", dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=256k") < 0) {
        (void)rmdir(dir);
        return SKIP;
    }
    (void)atexit(leave);
    (void)snprintf(segment, sizeof(segment), "/dev/shm/full-%d", getpid());
    program_make(&p, argv[1], segment);
    (void)snprintf(p.kept, sizeof(p.kept), "%s/x.manifest", dir);
    (void)snprintf(filler, sizeof(filler), "%s/filler", dir);

    fill_disk(filler);
    CHECK(run(&p, said, sizeof(said)) == 1);
    CHECK(strstr(said, "No space left on device") && strstr(said, dir));
    CHECK(access(p.kept, F_OK) < 0); /* no half of one */
    CHECK(unlink(filler) == 0);
    CHECK(run(&p, said, sizeof(said)) == 0);
    CHECK((size_t)program_look(&p, &n) == n);

    /* A manifest that is there is not lost to a disk that is full when it is to be replaced. */
    struct stat before, after;
    CHECK(stat(p.kept, &before) == 0);
    (void)snprintf(file, sizeof(file), "%s/vae/diffusion_pytorch_model.safetensors", p.model.dir);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    CHECK(utimensat(AT_FDCWD, file, old, 0) == 0);
    fill_disk(filler);
    CHECK(run(&p, said, sizeof(said)) == 1);
    CHECK(strstr(said, "No space left on device"));
    CHECK(stat(p.kept, &after) == 0 && before.st_ino == after.st_ino &&
            before.st_size == after.st_size);
    CHECK((size_t)program_look(&p, &n) == n);
    CHECK(unlink(filler) == 0);
    CHECK(run(&p, said, sizeof(said)) == 0);

    (void)snprintf(moved, sizeof(moved), "%s.away", file);
    CHECK(rename(file, moved) == 0);
    CHECK(run(&p, said, sizeof(said)) == 1);
    CHECK(strstr(said, "vae/diffusion_pytorch_model.safetensors") || strstr(said, "'vae'"));
    CHECK((size_t)program_look(&p, &n) == n);
    CHECK(rename(moved, file) == 0);
    CHECK(run(&p, said, sizeof(said)) == 0);
    program_done(&p);
    return 0;
}
