/* place - gets the memory for a segment: huge pages first, then what the machine has. */
#ifndef PREHEAT_WARMUP_PLACE_H
#define PREHEAT_WARMUP_PLACE_H

#include "store/segment.h"

#include <stdbool.h>

enum { PLACE_TEXT = 256 };

typedef struct PlaceReport {
    char path[PLACE_TEXT];    /* where its first file is */
    char backing[PLACE_TEXT]; /* for people: "512 huge pages of 2 MiB", ... */
    uint64_t pages_needed;    /* huge pages of 2 MiB that the whole segment takes */
    uint64_t pages_missing;   /* of those, what is in shared memory instead */
    bool pages_to_be_had;     /* the kernel would give the missing ones; no hugetlbfs took them */
    int numa_node;            /* that was preferred; -1: none */
} PlaceReport;

/* How a new segment gets its memory: segment_create(), segment_create_taken(). */
typedef enum PlaceMemory { PLACE_PROMISED, PLACE_TAKEN } PlaceMemory;

/* place_open - goes on with the segment that is there, or makes one from what places.h's places
 * have. Files of this name in places that it does not use are removed.
 *
 *   floor_bytes  must stay available to the rest of the machine
 *
 * Memory is taken on the NUMA node of the first display controller of vendor 10de, if there are
 * several nodes. Returns 0; -ENOMEM with the numbers when the floor would be broken; else as
 * segment_create(). */
int place_open(const Manifest *m, const char *path, uint64_t floor_bytes, PlaceMemory memory,
        Segment **ret, PlaceReport *report, Err *err);

/* place_evict_others - removes the segments of other names beside this one, except those being
 * filled; /dev/shm is left alone. The directories must be preheat's. Returns how many. */
size_t place_evict_others(const char *path);

#endif
