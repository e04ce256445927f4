/* hugepages - what the kernel has in 2 MiB pages, what a model needs, and the commands between. */
#ifndef PREHEAT_CTL_HUGEPAGES_H
#define PREHEAT_CTL_HUGEPAGES_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#define HUGEPAGES_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB"
#define HUGEPAGE_BYTES ((uint64_t)2 << 20)

typedef struct HugePages {
    uint64_t total; /* nr_hugepages: reserved and surplus */
    uint64_t free;
    uint64_t reserved;   /* of the free ones, promised to somebody */
    uint64_t surplus;    /* of total, taken on demand */
    uint64_t overcommit; /* how many surplus ones are allowed */
} HugePages;

/* hugepages_read - dir is HUGEPAGES_DIR but for tests. -ENOENT: a kernel without them. */
int hugepages_read(const char *dir, HugePages *ret, Err *err);

/* hugepages_available - what a new file could still get. */
uint64_t hugepages_available(const HugePages *p);

/* hugepages_json - the members that status_print() reads; NULL when out of memory. */
json_t *hugepages_json(const HugePages *p, uint64_t n_needed);

/* hugepages_print - in sentences: needed, there, missing, and how to get them.
 *
 *   n_held  pages that the model's segment has already */
void hugepages_print(
        const HugePages *p, const char *model, uint64_t n_needed, uint64_t n_held, FILE *out);

#endif
