#include "warmup/numa.h"

#include "base/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A number of any base C knows; fallback when it cannot be read. */
static long read_long(int dir, const char *device, const char *name, long fallback) {
    char path[300], text[32];
    (void)snprintf(path, sizeof(path), "%s/%s", device, name); /* names are short; cut: not found */
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fallback;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (n <= 0)
        return fallback;
    text[n] = '\0';
    return strtol(text, NULL, 0);
}

int numa_gpu_node(void) {
    enum { VENDOR_NVIDIA = 0x10de, CLASS_DISPLAY = 0x03 };
    DIR *d = opendir("/sys/bus/pci/devices");
    int node = -1;
    const struct dirent *e;
    while (d && node < 0 && (e = readdir(d))) {
        if (read_long(dirfd(d), e->d_name, "vendor", 0) == VENDOR_NVIDIA &&
                read_long(dirfd(d), e->d_name, "class", 0) >> 16 == CLASS_DISPLAY)
            node = (int)read_long(dirfd(d), e->d_name, "numa_node", -1);
    }
    if (d)
        (void)closedir(d);
    return node;
}

/* "0", "0-1", "0,2" */
static bool has_several_nodes(void) {
    char text[64];
    return io_read_proc("/sys/devices/system/node/online", text, sizeof(text), NULL) == 0 &&
           strpbrk(text, "-,");
}

int numa_prefer_gpu(void) {
    int node = has_several_nodes() ? numa_gpu_node() : -1;
    unsigned long mask;
    if (node < 0 || node >= (int)(8 * sizeof(mask)))
        return -1;
    mask = 1UL << node;
    return syscall(SYS_set_mempolicy, MPOL_PREFERRED, &mask, 8 * sizeof(mask)) < 0 ? -1 : node;
}
