/* shelf - the descriptors that the keeper holds, by name.
 *
 * Closing the last copy of a descriptor of device memory frees that memory. One thread. */
#ifndef PREHEAT_KEEPER_SHELF_H
#define PREHEAT_KEEPER_SHELF_H

#include "keeper/wire.h"

typedef struct Shelf {
    size_t n;
    int fd[WIRE_MAX_KEPT]; /* owned */
    char name[WIRE_MAX_KEPT][WIRE_NAME_SIZE];
} Shelf; /* zeros: an empty one */

/* shelf_put - takes fd over; one that stood under this name is closed.
 *
 * Returns 0; -ENOSPC where WIRE_MAX_KEPT are held, fd staying the caller's. */
int shelf_put(Shelf *s, const char name[static WIRE_NAME_SIZE], int fd);

/* shelf_remove - closes the one of this name; returns how many that were. */
size_t shelf_remove(Shelf *s, const char name[static WIRE_NAME_SIZE]);

/* shelf_clear - closes all; returns how many that were. */
size_t shelf_clear(Shelf *s);

#endif
