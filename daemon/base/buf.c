#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_done(Buf *b) {
    free(b->data);
    *b = (Buf){0};
}

void *buf_grow(Buf *b, size_t n) {
    if (b->failed)
        return NULL;
    size_t wanted;
    if (__builtin_add_overflow(b->size, n, &wanted) || wanted > SIZE_MAX / 2) {
        b->failed = true;
        return NULL;
    }
    if (wanted + 1 > b->room) {
        size_t room = b->room ? b->room : 64;
        while (room < wanted + 1)
            room *= 2;
        char *data = realloc(b->data, room);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->room = room;
    }
    void *start = b->data + b->size;
    b->size = wanted;
    b->data[wanted] = '\0';
    return start;
}

void buf_append(Buf *b, const void *data, size_t n) {
    void *to = buf_grow(b, n);
    if (to && n)
        memcpy(to, data, n);
}

void buf_printf(Buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *to = n < 0 ? NULL : buf_grow(b, (size_t)n);
    if (to)
        (void)vsnprintf(to, (size_t)n + 1, fmt, again); /* measured above */
    else
        b->failed = true;
    va_end(again);
}

char *buf_take(Buf *b) {
    if (!b->failed)
        buf_append(b, "", 0);
    char *text = b->failed ? NULL : b->data;
    if (b->failed)
        free(b->data);
    *b = (Buf){0};
    return text;
}
