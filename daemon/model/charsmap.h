/* charsmap - SentencePiece's precompiled character map: text to the spelling a vocabulary uses.
 *
 * Bytes of a model file: u32 little-endian, the size of the trie in bytes; the trie, u32 units of a
 * double array (darts-clone); then the replacements, each ending in NUL. umT5's model has none. */
#ifndef PREHEAT_MODEL_CHARSMAP_H
#define PREHEAT_MODEL_CHARSMAP_H

#include "base/buf.h"
#include "base/err.h"

typedef struct Charsmap {
    const unsigned char *trie; /* n_units of 4 bytes, any alignment */
    size_t n_units;
    const char *replacements; /* ends with a NUL */
    size_t n_bytes;
} Charsmap;

/* charsmap_parse - data must outlive ret; NULL gives a map that changes nothing. Returns 0 or
 * -EBADMSG. */
int charsmap_parse(const void *data, size_t n, Charsmap *ret, Err *err);

/* charsmap_apply - n bytes of UTF-8, the longest match at each place replaced. */
void charsmap_apply(const Charsmap *m, Buf *to, const char *text, size_t n);

#endif
