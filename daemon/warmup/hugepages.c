#include "warmup/hugepages.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/macro.h"
#include "base/size.h"
#include "base/str.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysinfo.h>

static const char default_sysfs[] = "/sys/kernel/mm/hugepages/hugepages-2048kB";

static int read_text(int dir_fd, const char *path, char *text, size_t size) {
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = io_read_all(fd, text, size - 1);
    if (n < 0)
        return (int)n;
    text[n] = '\0';
    return 0;
}

static int read_number(int dir, const char *name, uint64_t *ret) {
    char text[64];
    int r = read_text(dir, name, text, sizeof(text));
    if (r < 0)
        return r;
    text[strcspn(text, "\n")] = '\0';
    return str_to_u64(text, ret);
}

int hugepages_read(const char *sysfs, HugePages *ret, Err *err) {
    HugePages h = {0};
    const struct {
        const char *name;
        uint64_t *value;
    } counters[] = {{"nr_hugepages", &h.total}, {"free_hugepages", &h.free},
            {"resv_hugepages", &h.promised}, {"surplus_hugepages", &h.surplus},
            {"nr_overcommit_hugepages", &h.overcommit}};
    if (!sysfs)
        sysfs = default_sysfs;
    _cleanup_close_ int dir = open(sysfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_set(err, -ENOTSUP, "this kernel has no huge pages of 2 MiB ('%s': %s)", sysfs,
                strerror(errno));
    for (size_t i = 0; i < ARRAY_LEN(counters); i++) {
        int r = read_number(dir, counters[i].name, counters[i].value);
        if (r < 0)
            return err_set(
                    err, r, "cannot read '%s/%s': %s", sysfs, counters[i].name, strerror(-r));
    }
    *ret = h;
    return 0;
}

uint64_t hugepages_available(const HugePages *h) {
    uint64_t free = h->free > h->promised ? h->free - h->promised : 0;
    return free + (h->overcommit > h->surplus ? h->overcommit - h->surplus : 0);
}

static int write_text(const char *path, const char *text) {
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : io_write_all(fd, text, strlen(text));
}

uint64_t hugepages_default_bytes(const char *meminfo) {
    unsigned long long kib;
    const char *line = strstr(meminfo, "Hugepagesize:");
    return line && sscanf(line, "Hugepagesize: %llu kB", &kib) == 1 ? kib * KIB : 0;
}

/* Whether /proc/sys/vm counts the pages that are meant here: the kernel's command line may say
 * otherwise, and so many pages of 1 GiB would be all of the memory. */
static bool are_default(void) {
    char text[8192];
    return read_text(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) == 0 &&
           hugepages_default_bytes(text) == HUGEPAGE_BYTES;
}

/* A container may leave only one of the two places writable. */
static int write_counter(const char *sysfs, const char *name, uint64_t value, Err *err) {
    _cleanup_free_ char *path = str_format("%s/%s", sysfs ? sysfs : default_sysfs, name);
    _cleanup_free_ char *proc = str_format("/proc/sys/vm/%s", name);
    _cleanup_free_ char *text = str_format("%ju", (uintmax_t)value);
    if (!path || !proc || !text)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = write_text(path, text);
    if (r < 0 && !sysfs && are_default() && write_text(proc, text) == 0)
        r = 0;
    return r < 0 ? err_set(err, r, "cannot write %s to '%s': %s", text, path, strerror(-r)) : 0;
}

/* Helps or does not. Node by node, because /proc/sys is closed to the unit. */
static void compact_memory(void) {
    enum { MAX_NODES = 64 };
    char path[64];
    for (int i = 0; i < MAX_NODES; i++) {
        (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/compact", i);
        (void)write_text(path, "1");
    }
}

int hugepages_set(const char *sysfs, HugePagesMode mode, uint64_t pages, Err *err) {
    static const char *const names[] = {[HUGEPAGES_SURPLUS] = "nr_overcommit_hugepages",
            [HUGEPAGES_PERMANENT] = "nr_hugepages"};
    return write_counter(sysfs, names[mode], pages, err);
}

uint64_t hugepages_unbroken(const char *buddyinfo) {
    enum { ORDER = 9 }; /* 2 MiB of 4 KiB */
    uint64_t n = 0;
    for (const char *line = buddyinfo; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *zone = strstr(line, "zone");
        unsigned long long count;
        int used = 0;
        if (!zone || zone > line + strcspn(line, "\n") || sscanf(zone, "zone %*s%n", &used) < 0)
            continue;
        const char *p = zone + used;
        for (int order = 0; sscanf(p, "%*[ ]%llu%n", &count, &used) == 1; order++, p += used)
            n += order >= ORDER ? count << (order - ORDER) : 0;
    }
    return n;
}

/* Memory in pieces: a page of 2 MiB is found only after moving what is between them. */
static bool is_broken_up(const HugePages *h, uint64_t wanted) {
    char text[8192];
    uint64_t have = h->free - MIN(h->promised, h->free);
    return read_text(AT_FDCWD, "/proc/buddyinfo", text, sizeof(text)) == 0 &&
           have + hugepages_unbroken(text) < wanted;
}

/* nr_hugepages of the machine spreads new pages over all nodes; a node's own takes them there. What
 * that node does not have, the others give. */
static int raise_pool(
        const char *sysfs, uint64_t wanted, const char *node, HugePages *h, Err *err) {
    _cleanup_close_ int dir = node ? open(node, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    uint64_t there, persistent = h->total - MIN(h->surplus, h->total);
    if (dir >= 0 && read_number(dir, "nr_hugepages", &there) == 0)
        (void)write_counter(node, "nr_hugepages", there + wanted - persistent, NULL);
    int r = hugepages_read(sysfs, h, err);
    if (r == 0 && h->total - MIN(h->surplus, h->total) < wanted)
        r = write_counter(sysfs, "nr_hugepages", wanted, err);
    return r < 0 ? r : hugepages_read(sysfs, h, err);
}

int hugepages_reserve(const char *sysfs, HugePagesMode mode, uint64_t wanted, const char *node,
        HugePages *ret, Err *err) {
    HugePages h;
    int r = hugepages_read(sysfs, &h, err);
    if (r < 0)
        return r;
    uint64_t persistent = h.total - MIN(h.surplus, h.total);
    if (mode == HUGEPAGES_SURPLUS) {
        if (h.overcommit < wanted)
            r = hugepages_set(sysfs, mode, wanted, err);
        if (r == 0 && !sysfs && is_broken_up(&h, wanted))
            compact_memory();
        if (r == 0)
            r = hugepages_read(sysfs, &h, err);
    } else if (persistent < wanted) {
        r = raise_pool(sysfs, wanted, node, &h, err);
        if (r == 0 && h.total < wanted) {
            compact_memory();
            r = raise_pool(sysfs, wanted, node, &h, err);
        }
    }
    if (r == 0)
        *ret = h;
    return r;
}

uint64_t hugepages_memory_available(void) {
    char text[8192];
    unsigned long long kib;
    if (read_text(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) == 0) {
        const char *line = strstr(text, "MemAvailable:");
        if (line && sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            return kib * KIB;
    }
    struct sysinfo s;
    return sysinfo(&s) < 0 ? 0 : (uint64_t)s.freeram * s.mem_unit;
}
