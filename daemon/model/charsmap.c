#include "model/charsmap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static uint32_t load_u32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int charsmap_parse(const void *data, size_t n, Charsmap *ret, Err *err) {
    const unsigned char *bytes = data;
    *ret = (Charsmap){0};
    if (!data)
        return 0;
    uint32_t trie_bytes = n >= 4 ? load_u32(bytes) : 0;
    if (n < 4 || trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > n - 4)
        return err_set(err, -EBADMSG,
                "its character map has %zu bytes, of them %u of a trie: wanted are a multiple of 4 "
                "that fits",
                n, (unsigned)trie_bytes);
    ret->trie = bytes + 4;
    ret->n_units = trie_bytes / 4;
    ret->replacements = (const char *)bytes + 4 + trie_bytes;
    ret->n_bytes = n - 4 - trie_bytes;
    if (ret->n_bytes == 0 || ret->replacements[ret->n_bytes - 1] != 0)
        return err_set(err, -EBADMSG, "its character map does not end in NUL");
    return 0;
}

/* A unit of the double array: label in bits 0-7 and 31, bit 8 says that a value follows, offset in
 * bits 10-30, times 256 if bit 9. The unit that holds a value is the value. */
static uint32_t unit_offset(uint32_t unit) {
    return unit >> 10 << ((unit & 1U << 9) >> 6);
}

static bool unit_at(const Charsmap *m, uint32_t at, uint32_t *ret) {
    if (at >= m->n_units)
        return false;
    *ret = load_u32(m->trie + 4 * (size_t)at);
    return true;
}

/* Bytes of the longest key that text begins with, 0 when there is none. */
static size_t longest_match(const Charsmap *m, const char *text, size_t n, uint32_t *ret_value) {
    uint32_t unit, value, at = 0;
    size_t longest = 0;
    if (!unit_at(m, 0, &unit))
        return 0;
    at ^= unit_offset(unit);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        at ^= c;
        if (!unit_at(m, at, &unit) || (unit & (1U << 31 | 0xFF)) != c)
            break;
        at ^= unit_offset(unit);
        if ((unit & 1U << 8) && unit_at(m, at, &value)) {
            longest = i + 1;
            *ret_value = value & ~(1U << 31);
        }
    }
    return longest;
}

void charsmap_apply(const Charsmap *m, Buf *to, const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t value = 0;
        size_t bytes = longest_match(m, text + i, n - i, &value);
        if (bytes > 0 && value < m->n_bytes) {
            buf_append(to, m->replacements + value, strlen(m->replacements + value));
            i += bytes;
            continue;
        }
        do /* a character as it is */
            buf_append(to, &text[i++], 1);
        while (i < n && ((unsigned char)text[i] & 0xC0) == 0x80);
    }
}
