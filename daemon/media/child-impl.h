/* child - one run of preheat-media: started, watched, its reason read, never left behind.
 *
 * Embedded by its owner; one owner. After child_start() succeeded, child_kill() must be called,
 * also after child_finish(). */
#ifndef PREHEAT_MEDIA_CHILD_IMPL_H
#define PREHEAT_MEDIA_CHILD_IMPL_H

#include "base/err.h"
#include "media/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_MEMORY_LIMIT ((uint64_t)1 << 30)

typedef struct Child {
    pid_t pid;         /* 0 when none is to be waited for */
    int pid_fd;        /* readable once it ended */
    int report_fd;     /* -1 after its end */
    size_t n_report;   /* bytes in report */
    char report[2048]; /* the first of what it wrote; more is read and dropped */
} Child;

typedef struct ChildOptions {
    const char *program;
    const char *task; /* "encode" or "picture" */
    uint64_t memory_bytes, cpu_sec, file_bytes;
    int input_fd, output_fd, thumbnail_fd; /* stay the caller's; thumbnail_fd may be -1 */
} ChildOptions;

int child_start(const ChildOptions *options, Child *ret, Err *err);

/* child_poll - until fd is ready for the poll(2) events, the child ended, or the deadline.
 *
 *   fd  -1 to wait for the end only
 *
 * Returns CHILD_READY, also when both are true; CHILD_ENDED; -ETIMEDOUT; negative errno. */
enum { CHILD_READY = 0, CHILD_ENDED = 1 };
int child_poll(Child *c, int fd, short events, uint64_t deadline_usec, Err *err);

/* child_finish - waits for the end and tells why there was one.
 *
 * Returns 0 when the child did all of its work; its own code for -ENOSPC, -EDQUOT, -EFBIG,
 * -EBADMSG, -ENOMEM, -EINVAL, -EIO and -ENOTSUP; -EPIPE for any other end; -ETIMEDOUT. */
int child_finish(Child *c, uint64_t deadline_usec, Err *err);

/* child_kill - ends and reaps what still runs, closes descriptors; may be called again. */
void child_kill(Child *c);

#endif
