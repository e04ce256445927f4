#include "fuzz.h"

#include "store/manifest-impl.h"
#include "store/segment-impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The input is the beginning of a segment's first file, of a manifest made up here: one file in
 * three chunks. Readers must refuse it or see states. With header and extents made right, only the
 * word for "ready" may let a reader in. With the input taken for extents that the header vouches
 * for, they are refused or hold every byte once. */
enum { N_CHUNKS = 3 };

static Manifest *made_up(void) {
    ManifestFile f = {.path = "a",
            .bytes = 3 * SEGMENT_PAGE,
            .segment_offset = SEGMENT_PAGE,
            .head_bytes = 8};
    ManifestChunk c[N_CHUNKS];
    for (uint64_t i = 0; i < N_CHUNKS; i++)
        c[i] = (ManifestChunk){.offset = i * SEGMENT_PAGE, .bytes = SEGMENT_PAGE};
    ManifestTables t = {.root = "/",
            .chunk_size = SEGMENT_PAGE,
            .file = &f,
            .n_files = 1,
            .chunk = c,
            .n_chunks = N_CHUNKS};
    Buf bytes = {0};
    Manifest *m = NULL;
    if (manifest_encode(&t, &bytes, NULL) < 0 ||
            manifest_parse(bytes.data, bytes.size, &m, NULL) < 0)
        abort();
    buf_done(&bytes);
    return m;
}

static int memory_file(const uint8_t *data, size_t n, uint64_t bytes) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 || pwrite(fd, data, n, 0) < 0)
        abort();
    return fd;
}

static void put(int fd, const void *data, size_t n, off_t at) {
    if (pwrite(fd, data, n, at) != (ssize_t)n)
        abort();
}

static void write_layout(int fd, const Manifest *m, const SegmentExtent *e, size_t n_extents) {
    SegmentHeader h = {.version = SEGMENT_VERSION,
            .n_chunks = N_CHUNKS,
            .segment_bytes = manifest_segment_bytes(m),
            .manifest = manifest_digest(m),
            .n_extents = (uint32_t)n_extents};
    memcpy(h.magic, SEGMENT_MAGIC, sizeof(h.magic));
    segment_seal(&h, e);
    put(fd, &h, sizeof(h), 0);
    put(fd, e, n_extents * sizeof(*e), SEGMENT_EXTENTS_AT);
}

static void look_at_states(int fd, const Manifest *m) {
    Segment *s;
    uint32_t word[N_CHUNKS];
    if (segment_open(fd, NULL, m, &s, NULL) < 0 ||
            pread(fd, word, sizeof(word), SEGMENT_STATES_AT) != (ssize_t)sizeof(word))
        abort();
    for (size_t i = 0; i < N_CHUNKS; i++) {
        int r = segment_wait(s, i, 0, NULL);
        assert((r == 0) == (word[i] == SEGMENT_WORD_READY));
    }
    segment_close(s);
}

static void look_at_extents(int fd, const Manifest *m) {
    Segment *s;
    if (segment_open(fd, NULL, m, &s, NULL) < 0)
        return;
    SegmentShare share[N_PLACES];
    size_t n = segment_shares(s, share);
    assert(n == 1 && share[0].place == 0 && share[0].bytes == manifest_segment_bytes(m));
    const char *at = (const char *)segment_data(s) + SEGMENT_PAGE;
    unsigned sum = 0;
    for (size_t i = 0; i < segment_n_extents(s); i++) {
        const void *data;
        uint64_t bytes;
        segment_extent(s, i, &data, &bytes);
        assert(data == at);
        for (uint64_t k = 0; k < bytes; k += 4096)
            sum += (uint8_t)at[k];
        at += bytes;
    }
    assert(at == (const char *)segment_data(s) + manifest_segment_bytes(m) && sum == 0);
    segment_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static Manifest *m;
    if (!m)
        m = made_up();
    if (n > SEGMENT_EXTENTS_AT)
        return 0;
    int fd = memory_file(data, n, manifest_segment_bytes(m));
    Segment *s;
    if (segment_check(fd, NULL, NULL) == 0 && segment_open(fd, NULL, m, &s, NULL) == 0)
        segment_close(s);
    SegmentExtent whole = {.bytes = manifest_segment_bytes(m)};
    write_layout(fd, m, &whole, 1);
    look_at_states(fd, m);
    close(fd);

    fd = memory_file(data, 0, manifest_segment_bytes(m));
    SegmentExtent extent[16];
    size_t n_extents = n / sizeof(extent[0]) < 16 ? n / sizeof(extent[0]) : 16;
    memcpy(extent, data, n_extents * sizeof(extent[0]));
    write_layout(fd, m, extent, n_extents);
    look_at_extents(fd, m);
    close(fd);
    return 0;
}
