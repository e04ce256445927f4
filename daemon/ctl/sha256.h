/* sha256 - the digest that model hubs publish beside their files (FIPS 180-4). */
#ifndef PREHEAT_CTL_SHA256_H
#define PREHEAT_CTL_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX_SIZE 65 /* with the NUL */

typedef struct Sha256 {
    uint32_t state[8];
    uint8_t block[64];
    uint64_t n_bytes; /* so far */
} Sha256;

void sha256_init(Sha256 *s);
void sha256_add(Sha256 *s, const void *data, size_t n);

/* sha256_hex - of all that was added, lower case; s is spent. Returns text. */
const char *sha256_hex(Sha256 *s, char text[static SHA256_HEX_SIZE]);

#endif
