/* preheat-keeper - holds the descriptors of parked weights while no daemon runs, where systemd
 * itself cannot (before 254). It never looks at what it holds; started by its socket, it ends when
 * it holds nothing. */
#include "base/cleanup.h"
#include "base/str.h"
#include "keeper/server.h"

#include <fcntl.h>
#include <syslog.h>

#ifndef PREHEAT_VERSION
#error "PREHEAT_VERSION comes from daemon/meson.build"
#endif

/* Long enough for a daemon that gives back what it found and parks anew; short enough to be gone
 * from an idle machine. Five starts in a row stay below systemd's start limit. */
#define IDLE_USEC (5 * USEC_PER_SEC)

enum { FIRST_FD = 3, EXIT_USAGE = 2 };

static void tell(int priority, const char *text) {
    if (isatty(STDERR_FILENO))
        (void)fprintf(stderr, "preheat-keeper: %s\n", text);
    else
        (void)fprintf(stderr, "<%d>%s\n", priority, text);
}

/* The socket's place, -1 where there is none; the other ones are what an earlier process stored. */
static int inherit(Shelf *shelf) {
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    uint64_t n = 0, whose = 0;
    int listener = -1;
    if (!pid || !count || str_to_u64(pid, &whose) < 0 || whose != (uint64_t)getpid() ||
            str_to_u64(count, &n) < 0 || n > WIRE_MAX_KEPT + 1)
        return -1;
    _cleanup_free_ char *copy = strdup(names ? names : "");
    char *rest = copy;
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
        const char *text = rest ? strsep(&rest, ":") : NULL;
        char name[WIRE_NAME_SIZE];
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (text && str_starts(text, "parked-") && wire_name_set(name, text) &&
                shelf_put(shelf, name, fd) == 0)
            continue;
        if (listener < 0 && (!text || !str_starts(text, "parked-")))
            listener = fd;
        else
            (void)close(fd);
    }
    return listener;
}

static const char usage[] =
        "Usage: preheat-keeper [--help | --version]\n"
        "\n"
        "Holds the GPU memory of parked weights for preheatd where systemd is older than 254.\n"
        "Started by preheat-keeper.socket.\n";

int main(int argc, char **argv) {
    if (argc == 2 && (str_eq(argv[1], "--help") || str_eq(argv[1], "--version"))) {
        (void)puts(str_eq(argv[1], "--help") ? usage : "preheat-keeper " PREHEAT_VERSION);
        return EXIT_SUCCESS;
    }
    Shelf shelf = {0};
    Backup backup;
    Err err = {0};
    int listener = argc == 1 ? inherit(&shelf) : -1;
    if (listener < 0) {
        (void)fputs(usage, stderr);
        return EXIT_USAGE;
    }
    backup_open(&backup, getenv("NOTIFY_SOCKET"));
    const ServerOptions options = {
            .listen_fd = listener,
            .uid = geteuid(),
            .idle_usec = IDLE_USEC,
            .client_usec = SERVER_CLIENT_USEC,
            .backup = &backup,
            .tell = tell,
    };
    int r = server_run(&options, &shelf, &err);
    backup_close(&backup);
    if (r < 0)
        tell(LOG_ERR, err_text(&err));
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
