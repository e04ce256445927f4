#include "base/digest.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

static Digest canonical(XXH128_hash_t h) {
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, h);
    Digest d;
    static_assert(sizeof(c.digest) == sizeof(d.byte), "128 bits");
    memcpy(d.byte, c.digest, sizeof(d.byte));
    return d;
}

Digest digest_of(const void *data, size_t n) {
    return canonical(XXH3_128bits(data, n));
}

bool digest_eq(const Digest *a, const Digest *b) {
    return memcmp(a->byte, b->byte, sizeof(a->byte)) == 0;
}

const char *digest_hex(const Digest *d, char text[static DIGEST_HEX_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof(d->byte); i++) {
        text[2 * i] = digits[d->byte[i] >> 4];
        text[2 * i + 1] = digits[d->byte[i] & 15];
    }
    text[DIGEST_HEX_SIZE - 1] = '\0';
    return text;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int digest_parse(const char *text, Digest *ret) {
    if (strlen(text) != DIGEST_HEX_SIZE - 1)
        return -EINVAL;
    Digest d;
    for (size_t i = 0; i < sizeof(d.byte); i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        d.byte[i] = (uint8_t)(high << 4 | low);
    }
    *ret = d;
    return 0;
}

DigestState *digest_state_new(void) {
    XXH3_state_t *s = XXH3_createState();
    if (s)
        digest_state_reset((DigestState *)s);
    return (DigestState *)s;
}

DigestState *digest_state_free(DigestState *s) {
    (void)XXH3_freeState((XXH3_state_t *)s); /* takes NULL, always succeeds */
    return NULL;
}

void digest_state_reset(DigestState *s) {
    (void)XXH3_128bits_reset((XXH3_state_t *)s); /* fails on NULL only */
}

void digest_state_add(DigestState *s, const void *data, size_t n) {
    (void)XXH3_128bits_update((XXH3_state_t *)s, data, n);
}

Digest digest_state_get(const DigestState *s) {
    return canonical(XXH3_128bits_digest((const XXH3_state_t *)s));
}
