/* exit - what the command's exit status tells a script. */
#ifndef PREHEAT_CTL_EXIT_H
#define PREHEAT_CTL_EXIT_H

#include <errno.h>

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,      /* something here: a file, memory */
    EXIT_USAGE = 2,       /* the command line is wrong; nothing was done */
    EXIT_UNREACHABLE = 3, /* nobody answers at the socket or address */
    EXIT_REFUSED = 4,     /* the server said no */
    EXIT_JOB_FAILED = 5,  /* the job was taken and ended without a video */
    EXIT_DAMAGED = 6,     /* model add, model verify: a model's files are not what they must be */
    EXIT_INTERRUPTED = 130,
};

/* The codes by which the functions of ctl tell these apart; chosen so that no other room and no
 * system call used here gives them, but for CTL_DAMAGED, which is what the store says. */
#define CTL_USAGE (-EBADRQC)
#define CTL_UNREACHABLE (-EHOSTUNREACH)
#define CTL_REFUSED (-EREMOTEIO)
#define CTL_JOB_FAILED (-ENOTRECOVERABLE)
#define CTL_DAMAGED (-EBADMSG)
#define CTL_INTERRUPTED (-EINTR)

/* exit_status - of 0 or a negative code. */
static inline int exit_status(int r) {
    switch (r) {
    case 0:
        return EXIT_OK;
    case CTL_USAGE:
        return EXIT_USAGE;
    case CTL_UNREACHABLE:
        return EXIT_UNREACHABLE;
    case CTL_REFUSED:
        return EXIT_REFUSED;
    case CTL_JOB_FAILED:
        return EXIT_JOB_FAILED;
    case CTL_DAMAGED:
        return EXIT_DAMAGED;
    case CTL_INTERRUPTED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_FAILED;
    }
}

#endif
