/* place - gets the memory for a segment: huge pages first, then what the machine has. */
#ifndef PREHEAT_WARMUP_PLACE_H
#define PREHEAT_WARMUP_PLACE_H

#include "store/segment.h"

#include <stdbool.h>

enum { PLACE_TEXT = 256 };

typedef struct PlaceReport {
    char path[PLACE_TEXT];    /* where it is */
    char backing[PLACE_TEXT]; /* for people: "512 huge pages of 2 MiB", ... */
    uint64_t pages_needed;    /* huge pages of 2 MiB that the whole segment takes */
    bool huge;                /* it is in hugetlbfs */
    uint64_t pages_missing;   /* that the kernel would not give; 0 when it would or did */
    int numa_node;            /* that was preferred; -1: none */
} PlaceReport;

/* place_open - opens or makes the segment in the first of weights.h's places that has the memory.
 * Segments of this name left in the places that come after are removed.
 *
 *   floor_bytes  must stay available to the rest of the machine
 *
 * Memory is taken on the NUMA node of the first display controller of vendor 10de, if there are
 * several nodes. Returns 0; -ENOMEM with the numbers when the floor would be broken; -ENOSPC when
 * no place has room; else as segment_create(). */
int place_open(const Manifest *m, const char *path, uint64_t floor_bytes, Segment **ret,
        PlaceReport *report, Err *err);

/* place_evict - removes the segment from all places. Returns 0 or -EBUSY, negative errno. */
int place_evict(const char *path, Err *err);

/* place_evict_others - removes the segments of other names beside this one, except those being
 * filled; /dev/shm is left alone. The directories must be preheat's. Returns how many. */
size_t place_evict_others(const char *path);

#endif
