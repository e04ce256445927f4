/* str - strings: comparison, formatting onto the heap, strict number parsing. */
#ifndef PREHEAT_BASE_STR_H
#define PREHEAT_BASE_STR_H

#include "base/macro.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline bool str_eq(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline bool str_ends(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* str_format - a new string, or NULL when out of memory; the caller frees it. */
char *str_format(const char *fmt, ...) _printf_(1, 2);

/* str_to_i64, str_to_u64, str_to_f64 - the whole text as one number: no white space, no sign on
 * u64, base 10, finite.
 *
 * Returns 0; -EINVAL when the text is not such a number; -ERANGE when it does not fit. */
int str_to_i64(const char *text, int64_t *ret);
int str_to_u64(const char *text, uint64_t *ret);
int str_to_f64(const char *text, double *ret);

/* str_bytes - writes "823 B", "13.4 MB" or "24.1 GB" into text, powers of ten, as disks are sold.
 *
 * Returns text. */
enum { STR_BYTES_SIZE = 24 };
const char *str_bytes(char text[static STR_BYTES_SIZE], double bytes);

/* str_is_utf8 - true when the n bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool str_is_utf8(const char *text, size_t n);

/* str_mend_utf8 - each byte that belongs to no well-formed sequence becomes '?': for sentences that
 * quote, and were cut within a character. */
void str_mend_utf8(char *text);

#endif
