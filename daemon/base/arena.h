/* arena - many small allocations that are freed together.
 *
 * One owner, no locking. Memory is zeroed and aligned to 16 bytes. */
#ifndef PREHEAT_BASE_ARENA_H
#define PREHEAT_BASE_ARENA_H

#include <stddef.h>

typedef struct ArenaBlock ArenaBlock;

typedef struct Arena {
    ArenaBlock *blocks; /* newest first; zero-initialised is empty */
} Arena;

void arena_done(Arena *a);

/* arena_alloc - n zeroed bytes until arena_done(); NULL when out of memory. */
void *arena_alloc(Arena *a, size_t n);

/* arena_strndup - n bytes of text and a NUL. */
char *arena_strndup(Arena *a, const char *text, size_t n);

#endif
