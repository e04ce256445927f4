#include "oom.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Wrapped functions run in any thread of the room; relaxed, for only whole runs are compared. */
static atomic_int countdown = -1; /* allocations until one fails; below 0: none does */
static atomic_int n_allocations, n_live;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t n);
int __real_posix_memalign(void **ret, size_t alignment, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *fmt, va_list ap);
int __real_scandir64(const char *dir, struct dirent ***ret, int (*filter)(const struct dirent *),
        int (*compare)(const struct dirent **, const struct dirent **));
void __real_free(void *p);
int __real_pthread_create(
        pthread_t *ret, const pthread_attr_t *a, void *(*func)(void *), void *context);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *fmt, va_list ap);
int __wrap_scandir64(const char *dir, struct dirent ***ret, int (*filter)(const struct dirent *),
        int (*compare)(const struct dirent **, const struct dirent **));
void __wrap_free(void *p);
int __wrap_pthread_create(
        pthread_t *ret, const pthread_attr_t *a, void *(*func)(void *), void *context);

static bool must_fail(void) {
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    return atomic_fetch_sub_explicit(&countdown, 1, memory_order_relaxed) == 0;
}

static void *counted(void *p) {
    if (p)
        atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    return p;
}

static void *refused(void) {
    errno = ENOMEM;
    return NULL;
}

void *__wrap_malloc(size_t n) {
    return must_fail() ? refused() : counted(__real_malloc(n));
}

void *oom_malloc(size_t n) {
    return counted(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size) {
    return must_fail() ? refused() : counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n) {
    if (must_fail())
        return refused();
    void *q = __real_realloc(p, n);
    return p ? q : counted(q);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size) {
    if (must_fail())
        return refused();
    void *q = __real_reallocarray(p, n, size);
    return p ? q : counted(q);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n) {
    return must_fail() ? refused() : counted(__real_aligned_alloc(alignment, n));
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t n) {
    if (must_fail())
        return ENOMEM;
    int r = __real_posix_memalign(ret, alignment, n);
    if (r == 0)
        (void)counted(*ret);
    return r;
}

char *__wrap_strdup(const char *s) {
    return must_fail() ? refused() : counted(__real_strdup(s));
}

char *__wrap_strndup(const char *s, size_t n) {
    return must_fail() ? refused() : counted(__real_strndup(s, n));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list ap) {
    if (must_fail())
        return -1;
    int r = __real_vasprintf(ret, fmt, ap);
    if (r >= 0)
        (void)counted(*ret);
    return r;
}

/* The list and each of its entries are freed by the caller. 64: what scandir() is with
 * _FILE_OFFSET_BITS=64, which meson sets. */
int __wrap_scandir64(const char *dir, struct dirent ***ret, int (*filter)(const struct dirent *),
        int (*compare)(const struct dirent **, const struct dirent **)) {
    if (must_fail()) {
        errno = ENOMEM;
        return -1;
    }
    int n = __real_scandir64(dir, ret, filter, compare);
    if (n >= 0)
        atomic_fetch_add_explicit(&n_live, n + 1, memory_order_relaxed);
    return n;
}

void __wrap_free(void *p) {
    if (p)
        atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    __real_free(p);
}

int __wrap_pthread_create(
        pthread_t *ret, const pthread_attr_t *a, void *(*func)(void *), void *context) {
    return must_fail() ? EAGAIN : __real_pthread_create(ret, a, func, context);
}

void oom_count_up(const char *name, OomFunc *func, void *context, int least) {
    for (int n = 0;; n++) {
        Err err = {0};
        int live = atomic_load_explicit(&n_live, memory_order_relaxed);
        atomic_store_explicit(&n_allocations, 0, memory_order_relaxed);
        atomic_store_explicit(&countdown, n, memory_order_relaxed);
        int r = func(context, &err);
        bool failed = atomic_load_explicit(&countdown, memory_order_relaxed) < 0;
        atomic_store_explicit(&countdown, -1, memory_order_relaxed);
        int left = atomic_load_explicit(&n_live, memory_order_relaxed) - live;
        if (left != 0 || (failed ? r != -ENOMEM && r != -EAGAIN : r != 0) || (r < 0 && !err.code)) {
            fprintf(stderr, "%s: allocation %d %s: returned %d (%s), %d not freed\n", name, n,
                    failed ? "failed" : "was not reached", r, err_text(&err), left);
            exit(1);
        }
        if (failed)
            continue;
        printf("%s: each of %d allocations failed once\n", name, n);
        assert(n >= least);
        return;
    }
}
