#include "keeper/shelf.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* s->n where there is none. */
static size_t find(const Shelf *s, const char *name) {
    size_t i = 0;
    while (i < s->n && memcmp(s->name[i], name, WIRE_NAME_SIZE) != 0)
        i++;
    return i;
}

int shelf_put(Shelf *s, const char name[static WIRE_NAME_SIZE], int fd) {
    size_t i = find(s, name);
    if (i == WIRE_MAX_KEPT)
        return -ENOSPC;
    if (i < s->n)
        (void)close(s->fd[i]);
    else
        s->n++;
    s->fd[i] = fd;
    memcpy(s->name[i], name, WIRE_NAME_SIZE);
    return 0;
}

size_t shelf_remove(Shelf *s, const char name[static WIRE_NAME_SIZE]) {
    size_t i = find(s, name);
    if (i == s->n)
        return 0;
    (void)close(s->fd[i]);
    s->n--;
    s->fd[i] = s->fd[s->n];
    memcpy(s->name[i], s->name[s->n], WIRE_NAME_SIZE);
    return 1;
}

size_t shelf_clear(Shelf *s) {
    size_t n = s->n;
    wire_close_all(s->fd, n);
    s->n = 0;
    return n;
}
