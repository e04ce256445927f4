/* sha256 - SHA-256 (FIPS 180-4) of bytes that come piece by piece: what model hubs publish.
 *
 * Portable C, some 300 MB/s a thread; the store's own digests are XXH3 (base/digest.h). */
#ifndef PREHEAT_STORE_SHA256_H
#define PREHEAT_STORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_BLOCK = 64 };

typedef struct Sha256 {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[SHA256_BLOCK]; /* the first n_bytes % 64 of it wait to become a whole one */
} Sha256;

void sha256_init(Sha256 *s);
void sha256_add(Sha256 *s, const void *data, size_t n);

/* sha256_finish - the digest; s must be initialised again before further use. */
void sha256_finish(Sha256 *s, uint8_t ret[static SHA256_BYTES]);

#endif
