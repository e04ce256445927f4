#include "backend/cpu/cpu-impl.h"
#include "base/cleanup.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct CpuMemory {
    Memory base;
    int fd; /* a memfd that the data is mapped from; -1: from the heap */
} CpuMemory;

static uint64_t available_bytes(void) {
    _cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            return kib * KIB;
    return (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t cpu_memory_free_bytes(Backend *base) {
    CpuBackend *b = CONTAINER_OF(base, CpuBackend, base);
    uint64_t available = available_bytes();
    uint64_t used = atomic_load_explicit(&b->memory_used, memory_order_relaxed);
    return b->memory_limit ? MIN(available, b->memory_limit - used) : available;
}

/* Counts the bytes as used before they are: two threads may ask at once. */
static int memory_count(CpuBackend *b, size_t bytes, Err *err) {
    uint64_t limit = b->memory_limit ? b->memory_limit : INT64_MAX;
    uint64_t used = atomic_load_explicit(&b->memory_used, memory_order_relaxed);
    do {
        if (bytes > limit - used)
            return err_set(err, -ENOMEM, "%zu bytes of memory wanted, %llu of %llu in use", bytes,
                    (unsigned long long)used, (unsigned long long)limit);
    } while (!atomic_compare_exchange_weak_explicit(
            &b->memory_used, &used, used + bytes, memory_order_relaxed, memory_order_relaxed));
    return 0;
}

static void memory_uncount(CpuBackend *b, size_t bytes) {
    (void)atomic_fetch_sub_explicit(&b->memory_used, bytes, memory_order_relaxed);
}

/* Counts the bytes, which memory_forget() gives back. */
static int memory_describe(CpuBackend *b, size_t bytes, CpuMemory **ret, Err *err) {
    int r = memory_count(b, bytes, err);
    if (r < 0)
        return r;
    CpuMemory *m = calloc(1, sizeof(*m));
    if (!m) {
        memory_uncount(b, bytes);
        return err_set(err, -ENOMEM, "no memory for a description of %zu bytes", bytes);
    }
    *m = (CpuMemory){.base = {.backend = &b->base, .bytes = bytes}, .fd = -1};
    *ret = m;
    return 0;
}

static void memory_forget(CpuMemory *m) {
    memory_uncount(CONTAINER_OF(m->base.backend, CpuBackend, base), m->base.bytes);
    free(m);
}
DEFINE_CLEANUP(CpuMemory, memory_forget)

static size_t mapped_bytes(size_t bytes) {
    return size_align(MAX(bytes, (size_t)1), (size_t)sysconf(_SC_PAGESIZE));
}

/* Maps fd, which becomes the memory's. */
static int memory_map(CpuMemory *m, int fd, Err *err) {
    size_t n = mapped_bytes(m->base.bytes);
    void *data = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return err_set(err, -errno, "cannot map %zu bytes of memory: %s", n, strerror(errno));
    m->base.data = data;
    m->fd = fd;
    return 0;
}

static int memory_allocate(const CpuBackend *b, CpuMemory *m, Err *err) {
    if (!b->exportable) {
        m->base.data = aligned_alloc(
                STREAM_ALIGNMENT, size_align(MAX(m->base.bytes, (size_t)1), STREAM_ALIGNMENT));
        return m->base.data ? 0 : err_set(err, -ENOMEM, "no memory for %zu bytes", m->base.bytes);
    }
    _cleanup_close_ int fd = memfd_create("preheat-memory", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)mapped_bytes(m->base.bytes)) < 0)
        return err_set(err, -errno, "cannot make a memory file of %zu bytes: %s", m->base.bytes,
                strerror(errno));
    int r = memory_map(m, fd, err);
    if (r == 0)
        (void)TAKE_FD(fd);
    return r;
}

int cpu_memory_new(Backend *base, size_t bytes, Memory **ret, Err *err) {
    CpuBackend *b = CONTAINER_OF(base, CpuBackend, base);
    _cleanup_(memory_forgetp) CpuMemory *m = NULL;
    int r = memory_describe(b, bytes, &m, err);
    if (r == 0)
        r = memory_allocate(b, m, err);
    if (r < 0)
        return r;
    *ret = &TAKE_PTR(m)->base;
    return 0;
}

void cpu_memory_free(Memory *base) {
    CpuMemory *m = CONTAINER_OF(base, CpuMemory, base);
    if (m->fd >= 0)
        (void)munmap(base->data, mapped_bytes(base->bytes));
    else
        free(base->data);
    fd_closep(&m->fd);
    memory_forget(m);
}

static int duplicate(int fd, int *ret, Err *err) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return err_set(err, -errno, "cannot duplicate descriptor %d: %s", fd, strerror(errno));
    *ret = copy;
    return 0;
}

int cpu_memory_export(Memory *base, int *ret_fd, Err *err) {
    const CpuMemory *m = CONTAINER_OF(base, CpuMemory, base);
    if (m->fd < 0)
        return err_set(err, -ENOTSUP, "this memory of the CPU has no descriptor");
    return duplicate(m->fd, ret_fd, err);
}

int cpu_memory_import(Backend *base, int fd, size_t bytes, Memory **ret, Err *err) {
    CpuBackend *b = CONTAINER_OF(base, CpuBackend, base);
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
    if (!S_ISREG(st.st_mode) || fcntl(fd, F_GET_SEALS) < 0 ||
            (uint64_t)st.st_size != mapped_bytes(bytes))
        return err_set(err, -EBADMSG,
                "descriptor %d is a file of %lld bytes, wanted is a memory file of %zu", fd,
                (long long)st.st_size, mapped_bytes(bytes));
    _cleanup_(memory_forgetp) CpuMemory *m = NULL;
    _cleanup_close_ int copy = -1;
    int r = memory_describe(b, bytes, &m, err);
    if (r == 0)
        r = duplicate(fd, &copy, err);
    if (r == 0)
        r = memory_map(m, copy, err);
    if (r < 0)
        return r;
    (void)TAKE_FD(copy);
    *ret = &TAKE_PTR(m)->base;
    return 0;
}
