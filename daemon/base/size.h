/* size - checked arithmetic for sizes that come from a file or a client. */
#ifndef PREHEAT_BASE_SIZE_H
#define PREHEAT_BASE_SIZE_H

#include "base/macro.h"

#include <stdbool.h>
#include <stdint.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* False on overflow; *ret is then unspecified. */
static inline _must_use_ bool size_mul(uint64_t a, uint64_t b, uint64_t *ret) {
    return !__builtin_mul_overflow(a, b, ret);
}

static inline _must_use_ bool size_add(uint64_t a, uint64_t b, uint64_t *ret) {
    return !__builtin_add_overflow(a, b, ret);
}

/* unit is a power of two; n must be at least unit below the type's end, asserted. */
static inline uint64_t size_align(uint64_t n, uint64_t unit) {
    assert(unit && (unit & (unit - 1)) == 0);
    assert(n <= UINT64_MAX - (unit - 1));
    return (n + unit - 1) & ~(unit - 1);
}

#endif
