/* places - where a segment's files may be, in the order in which memory is taken from them.
 *
 *   0  ../gigantic/NAME beside the configured path, e.g. /run/preheat/gigantic/NAME: 1 GiB pages
 *   1  the configured path, e.g. /run/preheat/weights/NAME on hugetlbfs
 *   2  ../shared/NAME beside it, e.g. /run/preheat/shared/NAME, a tmpfs with huge=advise
 *   3  /dev/shm/preheat-NAME
 *
 * The numbers are part of segment-format.h. */
#ifndef PREHEAT_STORE_PLACES_H
#define PREHEAT_STORE_PLACES_H

#include <sys/types.h>

enum {
    PLACE_GIGANTIC,
    PLACE_CONFIGURED,
    PLACE_SHARED,
    PLACE_PUBLIC, /* a directory of everybody's: what is there may be anybody's */
    N_PLACES
};

/* places_path - the path of a place, on the heap; NULL when out of memory.
 *
 *   path  the configured one */
char *places_path(const char *path, int place);

/* places_owner - whose files a segment may have besides root's: this user's; for root, who looks at
 * what the warm-up's user filled, the owner of the configured directory unless that is everybody's.
 *
 *   path  the configured one or NULL
 *
 * Returns 0 or -ENOMEM. */
int places_owner(const char *path, uid_t *ret);

#endif
