#include "base/arena.h"

#include "base/macro.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024, ALIGNMENT = 16 };

struct ArenaBlock {
    ArenaBlock *next;
    size_t used, size;
    _Alignas(ALIGNMENT) char bytes[];
};

void arena_done(Arena *a) {
    while (a->blocks) {
        ArenaBlock *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
}

void *arena_alloc(Arena *a, size_t n) {
    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    ArenaBlock *b = a->blocks;
    if (!b || b->size - b->used < n) {
        size_t size = MAX(n, (size_t)BLOCK_BYTES);
        b = calloc(1, sizeof(*b) + size);
        if (!b)
            return NULL;
        b->size = size;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *p = b->bytes + b->used;
    b->used += n;
    return p;
}

char *arena_strndup(Arena *a, const char *text, size_t n) {
    if (n == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(a, n + 1);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}
