#include "fuzz.h"

#include "store/manifest-impl.h"
#include "store/segment-format.h"
#include "store/segment.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The input is the beginning of a segment file, header and states, of a manifest made up here: one
 * file in three chunks. Readers must refuse it or see states; with the header made right, only the
 * word for "ready" may let a reader in. */
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

static void write_header(int fd, const Manifest *m) {
    SegmentHeader h = {.version = SEGMENT_VERSION,
            .n_chunks = N_CHUNKS,
            .segment_bytes = manifest_segment_bytes(m),
            .manifest = manifest_digest(m)};
    memcpy(h.magic, SEGMENT_MAGIC, sizeof(h.magic));
    h.check = digest_of(&h, offsetof(SegmentHeader, check));
    if (pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
        abort();
}

static void look_at_states(int fd, const Manifest *m) {
    Segment *s;
    uint32_t word[N_CHUNKS];
    if (segment_open(fd, m, &s, NULL) < 0 ||
            pread(fd, word, sizeof(word), SEGMENT_STATES_AT) != (ssize_t)sizeof(word))
        abort();
    for (size_t i = 0; i < N_CHUNKS; i++) {
        int r = segment_wait(s, i, 0, NULL);
        assert((r == 0) == (word[i] == SEGMENT_WORD_READY));
    }
    segment_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static Manifest *m;
    if (!m)
        m = made_up();
    if (n > SEGMENT_PAGE)
        return 0;
    int fd = memory_file(data, n, manifest_segment_bytes(m));
    Segment *s;
    if (segment_check(fd, NULL) == 0 && segment_open(fd, m, &s, NULL) == 0)
        segment_close(s);
    write_header(fd, m);
    look_at_states(fd, m);
    close(fd);
    return 0;
}
