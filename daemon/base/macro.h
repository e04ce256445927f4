/* macro - the few macros every room needs. */
#ifndef PREHEAT_BASE_MACRO_H
#define PREHEAT_BASE_MACRO_H

#include <assert.h>
#include <stddef.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Arguments are evaluated once; both must have the same type. */
#define MIN(a, b)                                                                                  \
    ({                                                                                             \
        __typeof__(a) min_a_ = (a);                                                                \
        __typeof__(b) min_b_ = (b);                                                                \
        (void)(&min_a_ == &min_b_);                                                                \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define MAX(a, b)                                                                                  \
    ({                                                                                             \
        __typeof__(a) max_a_ = (a);                                                                \
        __typeof__(b) max_b_ = (b);                                                                \
        (void)(&max_a_ == &max_b_);                                                                \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define _printf_(fmt, first) __attribute__((format(printf, fmt, first)))
#define _must_use_ __attribute__((warn_unused_result))
#define _unused_ __attribute__((unused))
#define _noreturn_ __attribute__((noreturn))

/* Asserts stay on in releases; dassert() is for inner loops and is off there. */
#ifdef PREHEAT_DEBUG
#define dassert(e) assert(e)
#else
#define dassert(e) ((void)0)
#endif

#endif
