#include "fuzz.h"

#include "store/manifest-format.h"
#include "store/manifest.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The digest would keep every input out: it is made right first. */
static void repair(uint8_t *data, size_t n) {
    FormatHeader h;
    memcpy(&h, data, sizeof(h));
    memcpy(h.magic, FORMAT_MAGIC, sizeof(h.magic));
    h.version = FORMAT_VERSION;
    h.total_bytes = n;
    h.digest = (Digest){0};
    memcpy(data, &h, sizeof(h));
    h.digest = digest_of(data, n);
    memcpy(data, &h, sizeof(h));
}

static void use(const Manifest *m) {
    size_t sum = 0;
    for (size_t i = 0; i < manifest_n_files(m); i++)
        sum += strlen(manifest_file(m, i)->path);
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        sum += strlen(t->name) + strlen(t->part);
        assert(manifest_find_tensor(m, t->part, t->name) == t);
        assert(t->offset + t->bytes <= manifest_file(m, t->file)->bytes);
    }
    for (size_t i = 0; i < manifest_n_chunks(m); i++) {
        uint64_t at = manifest_chunk_segment_offset(m, i);
        assert(manifest_chunk_at(m, at) == i);
        assert(at + manifest_chunk(m, i)->bytes <= manifest_segment_bytes(m));
    }
    for (size_t i = 0; i < manifest_n_smalls(m); i++)
        assert(manifest_small(m, i)->data[manifest_small(m, i)->bytes] == '\0');
    assert(sum < manifest_segment_bytes(m) + FORMAT_MAX_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Manifest *m = NULL;
    (void)manifest_parse(data, n, &m, NULL);
    m = manifest_free(m);
    if (n < sizeof(FormatHeader))
        return 0;
    uint8_t *copy = malloc(n);
    if (!copy)
        return 0;
    memcpy(copy, data, n);
    repair(copy, n);
    if (manifest_parse(copy, n, &m, NULL) == 0)
        use(m);
    manifest_free(m);
    free(copy);
    return 0;
}
