/* cleanup - locals that free themselves, and how they are handed over. */
#ifndef PREHEAT_BASE_CLEANUP_H
#define PREHEAT_BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Defines func##p() for _cleanup_(): calls func on a pointer that is not NULL. */
#define DEFINE_CLEANUP(type, func)                                                                 \
    static inline __attribute__((unused)) void func##p(type **p) {                                 \
        if (*p)                                                                                    \
            func(*p);                                                                              \
    }

static inline void cleanup_free(void *p) {
    free(*(void **)p);
}

/* Leaves errno alone: a destructor must not hide the error that led to it. */
static inline void fd_closep(int *fd) {
    if (*fd >= 0) {
        int saved = errno;
        (void)close(*fd);
        errno = saved;
        *fd = -1;
    }
}

static inline void file_closep(FILE **f) {
    if (*f)
        (void)fclose(*f);
}

#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(fd_closep)
#define _cleanup_fclose_ _cleanup_(file_closep)

#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })

#endif
