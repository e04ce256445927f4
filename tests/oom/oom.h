/* oom - runs a constructor with the n-th allocation failing, n counted up until it succeeds.
 *
 * Linked with --wrap for malloc, calloc, realloc, reallocarray, aligned_alloc, posix_memalign,
 * strdup, strndup, vasprintf, scandir, free and pthread_create (a thread counts as an allocation):
 * calls of the program and the rooms in it are counted, those inside shared libraries are not. One
 * thread may allocate at a time. */
#ifndef PREHEAT_TESTS_OOM_OOM_H
#define PREHEAT_TESTS_OOM_OOM_H

#undef NDEBUG

#include "base/err.h"

#include <stddef.h>

/* Builds, uses and frees everything; returns 0 or what the first failure returned. */
typedef int OomFunc(void *context, Err *err);

/* oom_count_up - asserts that every failure is -ENOMEM (-EAGAIN of a thread) with a sentence, that
 * nothing stays allocated after it, and that at least `least` allocations were seen. Prints their
 * number. */
void oom_count_up(const char *name, OomFunc *func, void *context, int least);

/* oom_malloc - never fails, but is seen when it stays allocated: for a library that tells lack of
 * memory as something else (jansson's parser: as a syntax error) and whose strings the rooms free.
 */
void *oom_malloc(size_t n);

#endif
