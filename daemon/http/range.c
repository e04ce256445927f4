#include "http/range.h"

#include "base/macro.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>

/* Digits at *p; false when there are none. A number too large for 64 bits is the largest. */
static bool read_number(const char **p, uint64_t *ret) {
    uint64_t v = 0;
    if (!isdigit((unsigned char)**p))
        return false;
    for (; isdigit((unsigned char)**p); (*p)++)
        if (__builtin_mul_overflow(v, 10, &v) ||
                __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
            v = UINT64_MAX;
    *ret = v;
    return true;
}

int http_range_parse(const char *header, uint64_t size, uint64_t *ret_first, uint64_t *ret_n) {
    static const char unit[] = "bytes=";
    if (!str_starts(header, unit))
        return HTTP_RANGE_WHOLE;
    const char *p = header + strlen(unit);
    uint64_t first = 0, last = UINT64_MAX;
    bool has_first = read_number(&p, &first);
    if (*p++ != '-')
        return HTTP_RANGE_WHOLE;
    bool has_last = read_number(&p, &last);
    if (*p || (!has_first && !has_last) || (has_first && has_last && last < first))
        return HTTP_RANGE_WHOLE;
    if (!has_first) { /* the last `last` bytes */
        first = size - MIN(last, size);
        last = UINT64_MAX;
    }
    if (first >= size)
        return -ERANGE;
    *ret_first = first;
    *ret_n = MIN(last, size - 1) - first + 1;
    return 0;
}
