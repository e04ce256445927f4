/* weights - the places where a segment may be, in the order in which they are tried.
 *
 *   0  the configured path, e.g. /run/preheat/weights/NAME on hugetlbfs
 *   1  ../shared/NAME beside it, e.g. /run/preheat/shared/NAME, a tmpfs with huge=advise
 *   2  /dev/shm/preheat-NAME
 *
 * The warm-up fills the first that has room, the daemon reads the first that is there. */
#ifndef PREHEAT_STORE_WEIGHTS_H
#define PREHEAT_STORE_WEIGHTS_H

#include "base/err.h"

enum { N_WEIGHTS_PLACES = 3 };

/* weights_place - the path of a place, on the heap; NULL when out of memory. */
char *weights_place(const char *path, int place);

/* weights_open - the descriptor of a segment for checkpoint_open_segment().
 *
 *   inherited_fd  what systemd opened as "weights", or -1: then the places are tried, without
 *                 following a symbolic link
 *
 * Whichever it is must pass segment_check(). Returns a descriptor of the caller's (inherited_fd
 * itself if that was used) or negative errno; -ENOENT when no place has one. */
int weights_open(int inherited_fd, const char *path, Err *err);

#endif
