/* stall - in front of libc's: reads of more than 4 KiB never come back, as from a disk that does
 * not answer, once there have been STALL_AFTER of them. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t pread(int fd, void *to, size_t n, off_t at);
ssize_t pread(int fd, void *to, size_t n, off_t at) {
    static atomic_int n_reads;
    ssize_t (*real)(int, void *, size_t, off_t) =
            (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
    const char *after = getenv("STALL_AFTER");
    if (n > 4096 && after && atomic_fetch_add(&n_reads, 1) >= atoi(after))
        for (;;)
            (void)pause(); /* signals do not wake a disk */
    return real(fd, to, n, at);
}
