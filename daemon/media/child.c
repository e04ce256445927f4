#include "media/child-impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

/* Sources are first moved here, above every target, so that no dup2() overwrites one that is still
 * to be copied. */
#define FIRST_MOVED_FD 16

static int add_fd(posix_spawn_file_actions_t *actions, int fd, int target, int *ret_moved) {
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_MOVED_FD);
    if (moved < 0)
        return -errno;
    *ret_moved = moved;
    return -posix_spawn_file_actions_adddup2(actions, moved, target);
}

static int spawn_with_actions(const ChildOptions *o, posix_spawn_file_actions_t *actions,
        posix_spawnattr_t *attributes, pid_t *ret_pid) {
    char memory[24], cpu[24], file[24]; /* 2^64 has 20 digits */
    (void)snprintf(memory, sizeof(memory), "%ju", (uintmax_t)o->memory_bytes);
    (void)snprintf(cpu, sizeof(cpu), "%ju", (uintmax_t)o->cpu_sec);
    (void)snprintf(file, sizeof(file), "%ju", (uintmax_t)o->file_bytes);
    char *argv[] = {(char *)o->program, (char *)o->task, memory, cpu, file, NULL};
    char *envp[] = {NULL};

    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = r ? r : posix_spawnattr_setsigmask(attributes, &none);
    r = r ? r : posix_spawnattr_setsigdefault(attributes, &all);
    r = r ? r : posix_spawn(ret_pid, o->program, actions, attributes, argv, envp);
    return -r;
}

static int spawn(const ChildOptions *o, int report_fd, pid_t *ret_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r = -posix_spawn_file_actions_init(&actions);
    if (r < 0)
        return r;
    r = -posix_spawnattr_init(&attributes);
    if (r < 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return r;
    }

    _cleanup_close_ int input = -1, output = -1, report = -1, thumbnail = -1;
    r = add_fd(&actions, o->input_fd, WIRE_INPUT_FD, &input);
    if (r == 0)
        r = add_fd(&actions, o->output_fd, WIRE_OUTPUT_FD, &output);
    if (r == 0)
        r = add_fd(&actions, report_fd, WIRE_REPORT_FD, &report);
    if (r == 0 && o->thumbnail_fd >= 0)
        r = add_fd(&actions, o->thumbnail_fd, WIRE_THUMBNAIL_FD, &thumbnail);
    if (r == 0)
        r = -posix_spawn_file_actions_addclosefrom_np(
                &actions, o->thumbnail_fd >= 0 ? WIRE_THUMBNAIL_FD + 1 : WIRE_THUMBNAIL_FD);
    if (r == 0)
        r = spawn_with_actions(o, &actions, &attributes, ret_pid);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r;
}

int child_start(const ChildOptions *o, Child *ret, Err *err) {
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_set(err, -errno, "cannot make a pipe for '%s': %s", o->program, strerror(errno));
    _cleanup_close_ int read_fd = pipe_fds[0], write_fd = pipe_fds[1];

    Child c = {.pid_fd = -1, .report_fd = -1};
    int r = spawn(o, write_fd, &c.pid);
    if (r < 0)
        return err_set(err, r, "cannot start '%s': %s", o->program, strerror(-r));
    c.pid_fd = pidfd_open(c.pid, 0);
    if (c.pid_fd < 0) {
        r = -errno;
        child_kill(&c);
        return err_set(err, r, "cannot watch '%s': %s", o->program, strerror(-r));
    }
    c.report_fd = TAKE_FD(read_fd);
    *ret = c;
    return 0;
}

/* Takes what the child has written so far, so that it never blocks on its report. */
static void read_report(Child *c) {
    char dropped[512];
    while (c->report_fd >= 0) {
        size_t room = sizeof(c->report) - 1 - c->n_report;
        ssize_t n = room ? read(c->report_fd, c->report + c->n_report, room)
                         : read(c->report_fd, dropped, sizeof(dropped));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            fd_closep(&c->report_fd);
        else if (room)
            c->n_report += (size_t)n;
    }
}

int child_poll(Child *c, int fd, short events, uint64_t deadline_usec, Err *err) {
    for (;;) {
        struct pollfd fds[] = {
                {.fd = fd, .events = events},
                {.fd = c->report_fd, .events = POLLIN},
                {.fd = c->pid_fd, .events = POLLIN},
        };
        uint64_t left = clock_left(deadline_usec);
        struct timespec ts = {
                .tv_sec = (time_t)(left / USEC_PER_SEC),
                .tv_nsec = (long)(left % USEC_PER_SEC * 1000),
        };
        int n = ppoll(fds, ARRAY_LEN(fds), deadline_usec == USEC_INFINITY ? NULL : &ts, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, -errno, "cannot wait for the media child: %s", strerror(errno));
        if (fds[1].revents)
            read_report(c);
        if (fds[0].revents)
            return CHILD_READY;
        if (fds[2].revents)
            return CHILD_ENDED;
        if (n == 0)
            return -ETIMEDOUT;
    }
}

/* The child's words go into logs and answers: printable ASCII only, one line. */
static void clean_line(char *text) {
    text[strcspn(text, "\n")] = '\0';
    for (char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static bool code_is_passed_up(int64_t code) {
    static const int known[] = {ENOSPC, EDQUOT, EFBIG, EBADMSG, ENOMEM, EINVAL, EIO, ENOTSUP};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (code == known[i])
            return true;
    return false;
}

/* The sentence of a child that ended by itself without having done its work. */
static int report_to_err(Child *c, int status, Err *err) {
    c->report[c->n_report] = '\0';
    char *line = c->report[0] == '!' ? c->report : strstr(c->report, "\n!");
    char *space = line ? strchr(line, ' ') : NULL;
    if (!space) {
        clean_line(c->report);
        return err_set(err, -EPIPE, "preheat-media ended with status %d%s%s", status,
                c->report[0] ? ": " : " and gave no reason", c->report);
    }
    char *number = line + (line[0] == '\n' ? 2 : 1);
    int64_t code;
    *space = '\0';
    if (str_to_i64(number, &code) < 0 || !code_is_passed_up(code))
        code = EPIPE;
    clean_line(space + 1);
    return err_set(err, -(int)code, "preheat-media: %s", space + 1);
}

int child_finish(Child *c, uint64_t deadline_usec, Err *err) {
    int r = child_poll(c, -1, 0, deadline_usec, err);
    if (r == -ETIMEDOUT)
        return err_set(err, r, "preheat-media did not end in the time allowed");
    if (r < 0)
        return r;
    read_report(c);

    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)c->pid_fd, &info, WEXITED) < 0)
        return err_set(err, -errno, "cannot learn how preheat-media ended: %s", strerror(errno));
    c->pid = 0;
    if (info.si_code == CLD_EXITED && info.si_status == 0)
        return 0;
    if (info.si_code == CLD_EXITED)
        return report_to_err(c, info.si_status, err);
    if (info.si_status == SIGXCPU)
        return err_set(err, -EPIPE, "preheat-media used more processor time than it may");
    return err_set(err, -EPIPE, "preheat-media was ended by signal %d (%s)", info.si_status,
            strsignal(info.si_status));
}

void child_kill(Child *c) {
    if (c->pid > 0) {
        /* Not yet waited for, so the number is still this child's. */
        (void)kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        c->pid = 0;
    }
    fd_closep(&c->pid_fd);
    fd_closep(&c->report_fd);
}
