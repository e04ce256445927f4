/* safetensors - the header of one .safetensors file, read as strictly as the format allows.
 *
 * Only the header's bytes are looked at; the file's size is told by the caller. A file is refused
 * unless its tensors fill the data after the header exactly: no gap, no overlap, nothing behind. */
#ifndef PREHEAT_STORE_SAFETENSORS_H
#define PREHEAT_STORE_SAFETENSORS_H

#include "base/arena.h"
#include "base/err.h"
#include "store/weight-entry.h"

enum {
    SAFETENSORS_PREFIX = 8,               /* bytes of the header's length, little-endian */
    SAFETENSORS_MAX_HEADER = 100000000,   /* the format's own limit */
    SAFETENSORS_MAX_TENSORS = 1000 * 1000 /* this model has 1,263; a header could name 3 million */
};

typedef struct Safetensors {
    Arena arena;
    WeightEntry *entry; /* ordered by offset; dtype_name is one of the format's 22 */
    size_t n_entries;
    uint64_t head_bytes; /* where the data begins */
} Safetensors;

/* safetensors_head_bytes - length prefix and header together, from the file's first 8 bytes.
 *
 * Returns 0; -EBADMSG when the header is longer than the format or the file allows. */
int safetensors_head_bytes(const uint8_t prefix[static SAFETENSORS_PREFIX], uint64_t file_bytes,
        uint64_t *ret, Err *err);

/* safetensors_parse - a header of exactly safetensors_head_bytes() bytes, prefix included.
 *
 * Returns 0; -EBADMSG naming the tensor and what is wrong; -ENOMEM. The caller frees *ret with
 * safetensors_done(). */
int safetensors_parse(const void *head, size_t n, uint64_t file_bytes, Safetensors *ret, Err *err);

void safetensors_done(Safetensors *s);

#endif
