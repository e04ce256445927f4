#include "fuzz.h"

#include "store/safetensors.h"

#include <assert.h>

/* The input is a whole file; what passes must have tensors that lie in it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    uint64_t head = 0;
    Safetensors s;
    if (n < SAFETENSORS_PREFIX || safetensors_head_bytes(data, n, &head, NULL) < 0)
        head = n;
    if (safetensors_parse(data, head, n, &s, NULL) < 0)
        return 0;
    for (size_t i = 0; i < s.n_entries; i++)
        assert(s.entry[i].offset >= s.head_bytes && s.entry[i].offset + s.entry[i].bytes <= n);
    safetensors_done(&s);
    return 0;
}
