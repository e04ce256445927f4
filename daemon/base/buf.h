/* buf - bytes that grow.
 *
 * Embedded by its owner, zero-initialised is empty. Growth failure is remembered: later appends do
 * nothing and buf_failed() tells, so that a writer checks once at its end. One owner, no locking.
 */
#ifndef PREHEAT_BASE_BUF_H
#define PREHEAT_BASE_BUF_H

#include "base/macro.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct Buf {
    char *data; /* always one NUL beyond size, once anything was appended */
    size_t size;
    size_t room;
    bool failed;
} Buf;

void buf_done(Buf *b);

/* buf_append, buf_printf - add bytes or formatted text at the end. */
void buf_append(Buf *b, const void *data, size_t n);
void buf_printf(Buf *b, const char *fmt, ...) _printf_(2, 3);

/* buf_grow - room for n more bytes, uninitialised, counted as appended; NULL when out of memory. */
void *buf_grow(Buf *b, size_t n);

/* buf_failed - true once any append ran out of memory. */
static inline bool buf_failed(const Buf *b) {
    return b->failed;
}

/* buf_take - the bytes as a NUL-terminated heap string, b is empty afterwards; NULL when an append
 * failed. */
char *buf_take(Buf *b);

#endif
