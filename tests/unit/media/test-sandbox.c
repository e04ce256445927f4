#include "test.h"

#include "base/cleanup.h"
#include "media/codec/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Each runs in a process of its own, within the sandbox, and returns the errno of what it tried,
 * or 0 when it was let. */
typedef int Attempt(void);

static int failed(long r) {
    return r < 0 ? errno : 0;
}

static int try_socket(void) {
    return failed(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_unix_socket(void) {
    return failed(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_exec(void) {
    char name[] = "true", *argv[] = {name, NULL}, *envp[] = {NULL};
    return failed(execve("/bin/true", argv, envp));
}

static int try_fork(void) {
    return failed(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static int try_clone3(void) {
    return failed(syscall(SYS_clone3, NULL, 0));
}

static void *add_one(void *n) {
    (*(int *)n)++;
    return NULL;
}

static int try_thread(void) {
    pthread_t thread;
    int n = 1, r = pthread_create(&thread, NULL, add_one, &n);
    return r ? r : pthread_join(thread, NULL) ? EIO : n == 2 ? 0 : EIO;
}

/* A thread but for one flag. */
static int try_flags(unsigned long absent, unsigned long more) {
    unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    return failed(syscall(SYS_clone, (flags & ~absent) | more, 0, 0, 0, 0));
}

static int try_process_of_own_memory(void) {
    return try_flags(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, 0);
}

static int try_process_of_shared_memory(void) {
    return try_flags(CLONE_THREAD, CLONE_VFORK);
}

static int try_namespace(void) {
    return try_flags(CLONE_FS, CLONE_NEWNS);
}

static int try_network_namespace(void) {
    return try_flags(0, CLONE_NEWNET);
}

static int try_unshare(void) {
    return failed(unshare(CLONE_NEWUSER));
}

static int try_executable_memory(void) {
    void *p = mmap(
            NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int try_making_memory_executable(void) {
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? 0 : failed(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int try_kill_parent(void) {
    return failed(kill(getppid(), 0));
}

static int try_ptrace(void) {
    return failed(syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, 1, NULL, NULL));
}

static int try_mount(void) {
    return failed(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL));
}

static int try_more_descriptors(void) {
    return failed(dup(0));
}

static int try_unlink(void) {
    return failed(unlink("/tmp/preheat-test-sandbox"));
}

static int try_io_uring(void) {
    return failed(syscall(SYS_io_uring_setup, 1, NULL));
}

/* Four descriptors are kept: one was left open above them. */
static int try_inherited_descriptor(void) {
    char c;
    return failed(read(9, &c, 1));
}

static int try_long_file(void) {
    char bytes[64] = {0};
    return pwrite(1, bytes, 1, 1 << 20) == 1 ? failed(pwrite(1, bytes, 1, 2 << 20)) : 1000;
}

#ifndef __SANITIZE_ADDRESS__ /* it opens its own maps and reserves terabytes */
static int try_read_file(void) {
    return failed(open("/etc/passwd", O_RDONLY));
}

static int try_write_file(void) {
    return failed(open("/tmp/preheat-test-sandbox", O_WRONLY | O_CREAT, 0600));
}

static int try_device(void) {
    return failed(open("/dev/null", O_RDWR));
}

static int try_much_memory(void) {
    void *p = mmap(
            NULL, (size_t)1 << 40, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}
#endif

static int try_useful_things(void) {
    void *p = malloc(8 << 20);
    if (!p)
        return ENOMEM;
    memset(p, 1, 8 << 20);
    free(p);
    return failed(pwrite(1, "x", 1, 0));
}

static const SandboxLimits limits = {
        .memory_bytes = (uint64_t)1 << 30,
        .cpu_sec = 10,
        .file_bytes = (2 << 20) - 64,
};

/* Descriptor 1 becomes a file; 9 is one too many. */
static int prepare(bool threads) {
    int fd = memfd_create("test", 0);
    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 9) < 0)
        return 1;
    Err err = {0};
    SandboxLimits l = limits;
    l.threads = threads;
    return sandbox_enter(&l, &err) < 0;
}

static int outcome(Attempt *attempt, bool threads) {
    pid_t pid = fork();
    if (pid == 0) {
        if (prepare(threads))
            _exit(255);
        _exit(attempt());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        fail_msg("ended by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 255)
        fail_msg("the sandbox could not be entered");
    return WEXITSTATUS(status);
}

/* The first error is where threads are not wanted, the second where they are. */
#define CASE2(attempt, error, with_threads)                                                        \
#attempt, attempt, {                                                                           \
        error, with_threads                                                                        \
    }
#define CASE(attempt, error) CASE2(attempt, error, error)

static const struct {
    const char *name;
    Attempt *attempt;
    int error[2];
} cases[] = {
        {CASE(try_useful_things, 0)},
        {CASE(try_socket, EPERM)},
        {CASE(try_unix_socket, EPERM)},
        {CASE(try_exec, EPERM)},
        {CASE(try_fork, EPERM)},
        {CASE2(try_thread, EPERM, 0)},
        {CASE2(try_clone3, EPERM, ENOSYS)},
        {CASE(try_process_of_own_memory, EPERM)},
        {CASE(try_process_of_shared_memory, EPERM)},
        {CASE(try_namespace, EPERM)},
        {CASE(try_network_namespace, EPERM)},
        {CASE(try_unshare, EPERM)},
        {CASE(try_executable_memory, EPERM)},
        {CASE(try_making_memory_executable, EPERM)},
        {CASE(try_kill_parent, EPERM)},
        {CASE(try_ptrace, EPERM)},
        {CASE(try_mount, EPERM)},
        {CASE(try_more_descriptors, EPERM)},
        {CASE(try_unlink, EPERM)},
        {CASE(try_io_uring, EPERM)},
        {CASE(try_inherited_descriptor, EBADF)},
        {CASE(try_long_file, EFBIG)},
#ifndef __SANITIZE_ADDRESS__
        {CASE(try_read_file, EPERM)},
        {CASE(try_write_file, EPERM)},
        {CASE(try_device, EPERM)},
        {CASE(try_much_memory, ENOMEM)},
#endif
};

static void refused(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int threads = 0; threads < 2; threads++) {
            int error = outcome(cases[i].attempt, threads), wanted = cases[i].error[threads];
            if (error != wanted)
                fail_msg("%s%s: %s, wanted: %s", cases[i].name, threads ? " with threads" : "",
                        strerror(error), strerror(wanted));
        }
}

static int use_processor(void) {
    for (;;)
        __asm__ volatile("" ::: "memory");
    return 0;
}

static void processor_time_is_limited(void **state) {
    pid_t pid = fork();
    if (pid == 0) {
        SandboxLimits short_limits = limits;
        short_limits.cpu_sec = 1;
        if (sandbox_enter(&short_limits, NULL) < 0)
            _exit(255);
        _exit(use_processor());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_true(WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(refused),
            cmocka_unit_test(processor_time_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
