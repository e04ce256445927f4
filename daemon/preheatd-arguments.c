#include "preheatd-arguments.h"

#include "preheatd-ended.h"
#include "preheatd-versions.h"

#include "base/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PREHEAT_VERSION
#error "PREHEAT_VERSION comes from daemon/meson.build"
#endif

static const char usage[] =
        "Usage: preheatd [OPTION]...\n"
        "\n"
        "Serves text-to-video and image-to-video over the sockets that systemd hands over, or "
        "over\n"
        "those of the configuration's [daemon] section. Started by preheatd.socket.\n"
        "\n"
        "Options:\n"
        "  --config FILE             another configuration than the system's\n"
        "  --debug                   log more\n"
        "  --ended                   as ExecStopPost=: say how the daemon ended, and what to do\n"
        "  --print-versions          print what versions.lock is held against\n"
        "  --print-lock [MODULE]     print a versions.lock of what is here\n"
        "  --help, --version\n";

enum { CONFIG = 1, DEBUG, ENDED, PRINT_VERSIONS, PRINT_LOCK, HELP, VERSION, WRONG };

/* The task named last, 0 when there is none. */
static int read_options(int argc, char **argv, const char **ret_config) {
    static const struct option options[] = {{"config", required_argument, NULL, CONFIG},
            {"debug", no_argument, NULL, DEBUG}, {"ended", no_argument, NULL, ENDED},
            {"print-versions", no_argument, NULL, PRINT_VERSIONS},
            {"print-lock", no_argument, NULL, PRINT_LOCK}, {"help", no_argument, NULL, HELP},
            {"version", no_argument, NULL, VERSION}, {0}};
    int task = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == CONFIG)
            *ret_config = optarg;
        else if (c == DEBUG)
            log_set_max(LOG_DEBUG);
        else if (c == '?')
            return WRONG;
        else
            task = c;
    return task;
}

static int run_task(int task, const char *config, const char *operand) {
    switch (task) {
    case ENDED:
        ended_report();
        return EXIT_SUCCESS;
    case PRINT_VERSIONS:
        return versions_print(config);
    case PRINT_LOCK:
        return versions_print_lock(operand);
    case HELP:
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    case VERSION:
        (void)puts("preheatd " PREHEAT_VERSION);
        return EXIT_SUCCESS;
    default:
        (void)fputs(usage, stderr);
        return 2;
    }
}

int arguments_parse(int argc, char **argv, const char **ret_config) {
    int task = read_options(argc, argv, ret_config), n_operands = task == PRINT_LOCK;
    if (task != WRONG && argc - optind > n_operands) {
        (void)fprintf(stderr, "preheatd: unexpected argument '%s'\n", argv[optind + n_operands]);
        return 2;
    }
    if (task == 0)
        return -1;
    int status = run_task(task, *ret_config, optind < argc ? argv[optind] : NULL);
    if (status == EXIT_SUCCESS && fflush(stdout) != 0) {
        (void)fprintf(stderr, "preheatd: cannot write to standard output: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    return status;
}
