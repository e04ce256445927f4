/* digest - XXH3-128 of bytes: finds damage, proves no authorship. */
#ifndef PREHEAT_BASE_DIGEST_H
#define PREHEAT_BASE_DIGEST_H

#include "base/macro.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Canonical (big-endian) bytes, as xxhsum -H2 prints them. */
typedef struct Digest {
    uint8_t byte[16];
} Digest;

#define DIGEST_HEX_SIZE 33 /* with the NUL */

Digest digest_of(const void *data, size_t n);
bool digest_eq(const Digest *a, const Digest *b);

/* digest_hex - lower-case hexadecimal into text; returns text. */
const char *digest_hex(const Digest *d, char text[static DIGEST_HEX_SIZE]);

/* digest_parse - 32 hexadecimal digits; returns 0 or -EINVAL. */
int digest_parse(const char *text, Digest *ret);

/* DigestState - the digest of bytes that come piece by piece. */
typedef struct DigestState DigestState;

DigestState *digest_state_new(void); /* NULL when out of memory */
DigestState *digest_state_free(DigestState *s);
void digest_state_reset(DigestState *s);
void digest_state_add(DigestState *s, const void *data, size_t n);
Digest digest_state_get(const DigestState *s);

#endif
