/* hugepages - how many huge pages of 2 MiB the kernel has, and asking it for more. */
#ifndef PREHEAT_WARMUP_HUGEPAGES_H
#define PREHEAT_WARMUP_HUGEPAGES_H

#include "base/err.h"

#include <stdint.h>

#define HUGEPAGE_BYTES ((uint64_t)2 << 20)
#define GIGANTIC_SYSFS "/sys/kernel/mm/hugepages/hugepages-1048576kB" /* for hugepages_read() */

typedef struct HugePages {
    uint64_t total;      /* persistent and surplus */
    uint64_t free;       /* of those, not yet used */
    uint64_t promised;   /* of the free ones, already reserved by somebody's mapping */
    uint64_t surplus;    /* taken from ordinary memory, given back when freed */
    uint64_t overcommit; /* how many surplus pages there may be */
} HugePages;

/* hugepages_read - the kernel's counters.
 *
 *   sysfs  NULL: /sys/kernel/mm/hugepages/hugepages-2048kB; tests give a directory
 *
 * Returns 0; -ENOTSUP where the kernel has no huge pages. */
int hugepages_read(const char *sysfs, HugePages *ret, Err *err);

/* What a page can still be taken from: free and unpromised ones, and surplus not yet used. */
uint64_t hugepages_available(const HugePages *h);

typedef enum HugePagesMode {
    HUGEPAGES_SURPLUS,  /* allow that many surplus pages; memory is taken when a segment is made */
    HUGEPAGES_PERMANENT /* raise the kernel's pool now */
} HugePagesMode;

/* hugepages_reserve - raises the kernel's setting to at least `wanted`, never lowers it; asks once
 * for compaction when the pool, or the free memory in whole pages, stays short. Needs root.
 *
 *   node  sysfs of the node that permanent pages are taken from first; NULL: any
 *   ret   the counters afterwards; less than wanted is for the caller to judge
 *
 * Returns 0 or negative errno of writing. */
int hugepages_reserve(const char *sysfs, HugePagesMode mode, uint64_t wanted, const char *node,
        HugePages *ret, Err *err);

/* hugepages_unbroken - pages of 2 MiB that /proc/buddyinfo's text has in one piece. */
uint64_t hugepages_unbroken(const char *buddyinfo);

/* hugepages_default_bytes - the size that the kernel's settings below /proc/sys/vm are about, from
 * /proc/meminfo's text; 0 when it has none. */
uint64_t hugepages_default_bytes(const char *meminfo);

/* hugepages_set - the kernel's setting for that mode, lowered as well as raised. Returns 0 or
 * negative errno of writing. */
int hugepages_set(const char *sysfs, HugePagesMode mode, uint64_t pages, Err *err);

/* hugepages_memory_available - what the kernel thinks can be used without swapping (MemAvailable),
 * or the free memory where /proc/meminfo is hidden. */
uint64_t hugepages_memory_available(void);

#endif
