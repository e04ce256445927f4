#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

char *str_format(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : text;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int str_to_i64(const char *text, int64_t *ret) {
    if (!is_digit(text[0] == '-' ? text[1] : text[0]))
        return -EINVAL;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (*end)
        return -EINVAL;
    if (errno)
        return -errno;
    *ret = v;
    return 0;
}

int str_to_u64(const char *text, uint64_t *ret) {
    if (!is_digit(text[0]))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*end)
        return -EINVAL;
    if (errno)
        return -errno;
    *ret = v;
    return 0;
}

int str_to_f64(const char *text, double *ret) {
    const char *p = text[0] == '-' ? text + 1 : text;
    if (!is_digit(p[0]) || p[strspn(p, "0123456789.eE+-")]) /* rules out hex, inf and nan */
        return -EINVAL;
    char *end;
    double v = strtod(text, &end);
    if (*end)
        return -EINVAL;
    if (!isfinite(v))
        return -ERANGE;
    *ret = v;
    return 0;
}

/* Length of the well-formed sequence at s (at most n bytes), 0 when there is none.
 * Ranges as in Unicode 15, table 3-7. */
static size_t utf8_sequence(const unsigned char *s, size_t n) {
    unsigned char lead = s[0], low = 0x80, high = 0xbf;
    if (lead < 0x80)
        return 1;
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || len > n)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

const char *str_bytes(char text[static STR_BYTES_SIZE], double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 999.95 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1000;
        unit++;
    }
    (void)snprintf(text, STR_BYTES_SIZE, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

bool str_is_utf8(const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t len = utf8_sequence((const unsigned char *)text + i, n - i);
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

void str_mend_utf8(char *text) {
    for (size_t n = strlen(text); n > 0;) {
        size_t len = utf8_sequence((const unsigned char *)text, n);
        if (len == 0)
            *text = '?';
        text += len ? len : 1;
        n -= len ? len : 1;
    }
}
