#include "store/manifest.h"

#include "base/io.h"
#include "base/size.h"
#include "base/str.h"
#include "store/manifest-impl.h"

#include <fcntl.h>
#include <sys/stat.h>

/* The encoded tables of a file whose sizes have been checked. */
typedef struct Encoded {
    const FormatHeader *head;
    const FormatFile *file;
    const FormatTensor *tensor;
    const FormatChunk *chunk;
    const FormatSmall *small;
    const char *text, *small_data;
} Encoded;

static int check_counts(const FormatHeader *h, size_t n, Err *err) {
    if (memcmp(h->magic, FORMAT_MAGIC, sizeof(h->magic)) != 0)
        return err_set(err, -EBADMSG, "it is not a manifest (wrong magic)");
    if (h->version != FORMAT_VERSION)
        return err_set(err, -EBADMSG, "it has format version %u, this program reads %d", h->version,
                FORMAT_VERSION);
    if (h->total_bytes != n)
        return err_set(err, -EBADMSG, "it has %zu bytes, its header says %ju", n,
                (uintmax_t)h->total_bytes);
    if (h->n_files < 1 || h->n_files > FORMAT_MAX_FILES || h->n_tensors > FORMAT_MAX_TENSORS ||
            h->n_chunks < 1 || h->n_smalls > FORMAT_MAX_SMALLS || h->text_bytes < 1 ||
            h->text_bytes > n || h->small_bytes > n)
        return err_set(err, -EBADMSG,
                "its header says %u files, %u tensors, %u chunks, %u small files, %ju and %ju "
                "bytes of "
                "texts and small files; of files 1 to %d are possible, up to %d tensors, of chunks "
                "and texts 1 or more, up to %d small files",
                h->n_files, h->n_tensors, h->n_chunks, h->n_smalls, (uintmax_t)h->text_bytes,
                (uintmax_t)h->small_bytes, FORMAT_MAX_FILES, FORMAT_MAX_TENSORS, FORMAT_MAX_SMALLS);

    uint64_t sum = sizeof(*h) + (uint64_t)h->n_files * sizeof(FormatFile) +
                   (uint64_t)h->n_tensors * sizeof(FormatTensor) +
                   (uint64_t)h->n_chunks * sizeof(FormatChunk) +
                   (uint64_t)h->n_smalls * sizeof(FormatSmall) + h->text_bytes + h->small_bytes;
    if (sum != n)
        return err_set(err, -EBADMSG, "its tables take %ju bytes of %zu", (uintmax_t)sum, n);
    return 0;
}

static int check_digest(const void *bytes, size_t n, const FormatHeader *h, Err *err) {
    DigestState *s = digest_state_new();
    if (!s)
        return err_set(err, -ENOMEM, "no memory to compute its digest");
    FormatHeader blank = *h;
    blank.digest = (Digest){0};
    digest_state_add(s, &blank, sizeof(blank));
    digest_state_add(s, (const char *)bytes + sizeof(blank), n - sizeof(blank));
    Digest found = digest_state_get(s);
    digest_state_free(s);
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    if (!digest_eq(&found, &h->digest))
        return err_set(err, -EBADMSG, "its digest is %s, its header says %s", digest_hex(&found, a),
                digest_hex(&h->digest, b));
    return 0;
}

static Encoded locate_tables(const char *bytes) {
    Encoded e = {.head = (const FormatHeader *)bytes};
    e.file = (const FormatFile *)(e.head + 1);
    e.tensor = (const FormatTensor *)(e.file + e.head->n_files);
    e.chunk = (const FormatChunk *)(e.tensor + e.head->n_tensors);
    e.small = (const FormatSmall *)(e.chunk + e.head->n_chunks);
    e.text = (const char *)(e.small + e.head->n_smalls);
    e.small_data = e.text + e.head->text_bytes;
    return e;
}

/* The last byte of the texts is a NUL, checked first, so every offset within is a string. */
static const char *text_at(const Encoded *e, uint32_t at) {
    return at < e->head->text_bytes ? e->text + at : NULL;
}

/* Relative, no empty, "." or ".." component: opening it below root stays below root, symbolic
 * links aside. */
static bool path_is_plain(const char *path) {
    if (!path)
        return false;
    for (const char *c = path;; c++) {
        size_t n = strcspn(c, "/");
        if (n == 0 || (n == 1 && c[0] == '.') || (n == 2 && c[0] == '.' && c[1] == '.'))
            return false;
        c += n;
        if (!*c)
            return true;
    }
}

static int decode_head(const Encoded *e, Manifest *m, Err *err) {
    const FormatHeader *h = e->head;
    if (e->text[h->text_bytes - 1] != '\0')
        return err_set(err, -EBADMSG, "its texts do not end in a NUL");
    if ((h->flags & ~(uint32_t)FORMAT_HAS_DIGESTS) || h->zero)
        return err_set(err, -EBADMSG,
                "its header has the flags 0x%x and 0x%x, known are 0x%x and 0", h->flags, h->zero,
                FORMAT_HAS_DIGESTS);
    if (h->chunk_size < CHUNK_SIZE_MIN || h->chunk_size > CHUNK_SIZE_MAX ||
            h->chunk_size % SEGMENT_PAGE)
        return err_set(err, -EBADMSG,
                "its chunk size is %ju bytes, it must be a multiple of 2 MiB from 2 MiB to 1 GiB",
                (uintmax_t)h->chunk_size);
    m->head = *h;
    m->root = text_at(e, h->root);
    if (!m->root || m->root[0] != '/')
        return err_set(err, -EBADMSG, "its model directory is not an absolute path");
    m->file = arena_alloc(&m->arena, h->n_files * sizeof(*m->file));
    m->tensor = arena_alloc(&m->arena, (h->n_tensors + (size_t)1) * sizeof(*m->tensor));
    m->chunk = arena_alloc(&m->arena, h->n_chunks * sizeof(*m->chunk));
    m->chunk_by_offset = arena_alloc(&m->arena, h->n_chunks * sizeof(*m->chunk_by_offset));
    m->small = arena_alloc(&m->arena, (h->n_smalls + (size_t)1) * sizeof(*m->small));
    if (!m->file || !m->tensor || !m->chunk || !m->chunk_by_offset || !m->small)
        return err_set(err, -ENOMEM, "no memory for its tables");
    return 0;
}

static int decode_files(const Encoded *e, Manifest *m, Err *err) {
    uint64_t at = SEGMENT_PAGE;
    for (uint32_t i = 0; i < e->head->n_files; i++) {
        const FormatFile *f = &e->file[i];
        const char *path = text_at(e, f->path);
        if (!path_is_plain(path))
            return err_set(err, -EBADMSG, "its file %u has a path that leaves the model", i);
        if (f->bytes < 1 || f->bytes > FORMAT_MAX_FILE_BYTES || f->head_bytes > f->bytes || f->zero)
            return err_set(err, -EBADMSG,
                    "its file '%s' has %ju bytes, %ju of them a header; 1 to %ju are possible",
                    path, (uintmax_t)f->bytes, (uintmax_t)f->head_bytes,
                    (uintmax_t)FORMAT_MAX_FILE_BYTES);
        if (f->segment_offset != at)
            return err_set(err, -EBADMSG, "its file '%s' is at segment byte %ju, it must be at %ju",
                    path, (uintmax_t)f->segment_offset, (uintmax_t)at);
        at = size_align(at + f->bytes, SEGMENT_PAGE);
        m->weight_bytes += f->bytes;
        m->file[i] = (ManifestFile){
                path, f->bytes, f->mtime_nsec, f->segment_offset, f->head_bytes, f->head_digest};
    }
    if (at != e->head->segment_bytes)
        return err_set(err, -EBADMSG, "its segment has %ju bytes, its files need %ju",
                (uintmax_t)e->head->segment_bytes, (uintmax_t)at);
    return 0;
}

static int tensor_compare(const ManifestTensor *a, const ManifestTensor *b) {
    int c = strcmp(a->part, b->part);
    return c ? c : strcmp(a->name, b->name);
}

/* Shape, dtype and place agree with each other and with the file. */
static bool tensor_fits(const FormatTensor *t, const ManifestFile *f) {
    uint64_t bytes = dtype_bytes((DType)t->dtype), end;
    for (uint32_t i = 0; i < VIEW_MAX_RANK; i++) {
        if (t->dim[i] < 0 || (i >= t->rank && t->dim[i] != 0))
            return false;
        if (i < t->rank && !size_mul(bytes, (uint64_t)t->dim[i], &bytes))
            return false;
    }
    return bytes == t->bytes && t->offset >= f->head_bytes && size_add(t->offset, bytes, &end) &&
           end <= f->bytes && t->offset % dtype_bytes((DType)t->dtype) == 0 && !t->zero;
}

static int decode_tensors(const Encoded *e, Manifest *m, Err *err) {
    for (uint32_t i = 0; i < e->head->n_tensors; i++) {
        const FormatTensor *t = &e->tensor[i];
        ManifestTensor d = {.part = text_at(e, t->part), .name = text_at(e, t->name)};
        if (!d.part || !d.name)
            return err_set(err, -EBADMSG, "its tensor %u has no name", i);
        if (t->dtype >= N_DTYPES || t->rank > VIEW_MAX_RANK || t->file >= e->head->n_files ||
                !tensor_fits(t, &m->file[t->file]))
            return err_set(err, -EBADMSG,
                    "its tensor '%s' of '%s', of type %u and rank %u, cannot be the %ju bytes from "
                    "%ju "
                    "on of file %u",
                    d.name, d.part, t->dtype, t->rank, (uintmax_t)t->bytes, (uintmax_t)t->offset,
                    t->file);
        d.file = t->file;
        d.dtype = (DType)t->dtype;
        d.rank = (int)t->rank;
        memcpy(d.dim, t->dim, sizeof(d.dim));
        d.offset = t->offset;
        d.bytes = t->bytes;
        d.n_nonfinite = t->n_nonfinite;
        if (i > 0 && tensor_compare(&m->tensor[i - 1], &d) >= 0)
            return err_set(
                    err, -EBADMSG, "its tensor '%s' of '%s' is out of order", d.name, d.part);
        m->tensor[i] = d;
    }
    return 0;
}

static int chunk_by_offset(const void *a, const void *b, void *context) {
    const Manifest *m = context;
    uint64_t x = manifest_chunk_segment_offset(m, *(const uint32_t *)a);
    uint64_t y = manifest_chunk_segment_offset(m, *(const uint32_t *)b);
    return x < y ? -1 : x > y;
}

/* Chunks in the order of their places must follow each other without gap from page 1 to the end. */
static int check_cover(Manifest *m, Err *err) {
    uint32_t n = m->head.n_chunks;
    for (uint32_t i = 0; i < n; i++)
        m->chunk_by_offset[i] = i;
    qsort_r(m->chunk_by_offset, n, sizeof(*m->chunk_by_offset), chunk_by_offset, m);
    uint64_t at = SEGMENT_PAGE;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = m->chunk_by_offset[i];
        uint64_t begin = manifest_chunk_segment_offset(m, k);
        if (begin != at)
            return err_set(err, -EBADMSG, "its chunk %u is at segment byte %ju, it must be at %ju",
                    k, (uintmax_t)begin, (uintmax_t)at);
        at = size_align(begin + m->chunk[k].bytes, SEGMENT_PAGE);
    }
    if (at != m->head.segment_bytes)
        return err_set(err, -EBADMSG, "its chunks end at segment byte %ju of %ju", (uintmax_t)at,
                (uintmax_t)m->head.segment_bytes);
    return 0;
}

static int decode_chunks(const Encoded *e, Manifest *m, Err *err) {
    for (uint32_t i = 0; i < e->head->n_chunks; i++) {
        const FormatChunk *c = &e->chunk[i];
        uint64_t end;
        bool good = c->file < e->head->n_files && c->offset % SEGMENT_PAGE == 0 && c->bytes >= 1 &&
                    c->bytes <= e->head->chunk_size && !c->zero &&
                    size_add(c->offset, c->bytes, &end) && end <= m->file[c->file].bytes &&
                    (c->bytes % SEGMENT_PAGE == 0 || end == m->file[c->file].bytes);
        if (!good)
            return err_set(err, -EBADMSG,
                    "its chunk %u, of at most %ju bytes, cannot be the %ju bytes from %ju on of "
                    "file %u",
                    i, (uintmax_t)e->head->chunk_size, (uintmax_t)c->bytes, (uintmax_t)c->offset,
                    c->file);
        m->chunk[i] = (ManifestChunk){c->file, c->offset, c->bytes, c->digest};
    }
    return check_cover(m, err);
}

static int decode_smalls(const Encoded *e, Manifest *m, Err *err) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < e->head->n_smalls; i++) {
        const FormatSmall *s = &e->small[i];
        const char *path = text_at(e, s->path);
        if (!path_is_plain(path))
            return err_set(err, -EBADMSG, "its small file %u has a path that leaves the model", i);
        if (s->offset != at || at >= e->head->small_bytes || s->zero ||
                s->bytes >= e->head->small_bytes - at || e->small_data[at + s->bytes] != '\0')
            return err_set(err, -EBADMSG,
                    "its small file '%s' is %ju bytes from %ju on, it must be at %ju of %ju, a NUL "
                    "behind it",
                    path, (uintmax_t)s->bytes, (uintmax_t)s->offset, (uintmax_t)at,
                    (uintmax_t)e->head->small_bytes);
        if (i > 0 && strcmp(m->small[i - 1].path, path) >= 0)
            return err_set(err, -EBADMSG, "its small file '%s' is out of order", path);
        m->small[i] = (ManifestSmall){path, e->small_data + at, s->bytes};
        at += s->bytes + 1;
    }
    if (at != e->head->small_bytes)
        return err_set(err, -EBADMSG, "its small files end at byte %ju of %ju", (uintmax_t)at,
                (uintmax_t)e->head->small_bytes);
    return 0;
}

/* bytes becomes the manifest's. */
static int decode(char *bytes, size_t n, Manifest **ret, Err *err) {
    _cleanup_free_ char *owned = bytes;
    FormatHeader h;
    if (n < sizeof(h))
        return err_set(err, -EBADMSG, "it has %zu bytes, too few for a manifest", n);
    memcpy(&h, bytes, sizeof(h));
    int r = check_counts(&h, n, err);
    if (r == 0)
        r = check_digest(bytes, n, &h, err);
    if (r < 0)
        return r;

    _cleanup_(manifest_freep) Manifest *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, -ENOMEM, "no memory for a manifest");
    Encoded e = locate_tables(bytes);
    m->bytes = TAKE_PTR(owned);
    m->n_bytes = n;
    r = decode_head(&e, m, err);
    if (r == 0)
        r = decode_files(&e, m, err);
    if (r == 0)
        r = decode_tensors(&e, m, err);
    if (r == 0)
        r = decode_chunks(&e, m, err);
    if (r == 0)
        r = decode_smalls(&e, m, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

int manifest_parse(const void *data, size_t n, Manifest **ret, Err *err) {
    if (n > FORMAT_MAX_BYTES)
        return err_set(err, -EBADMSG, "it has %zu bytes, the limit is %d", n, FORMAT_MAX_BYTES);
    char *copy = malloc(n + 1);
    if (!copy)
        return err_set(err, -ENOMEM, "no memory for the %zu bytes of a manifest", n);
    memcpy(copy, data, n);
    return decode(copy, n, ret, err);
}

int manifest_load(const char *path, Manifest **ret, Err *err) {
    char *data;
    size_t n;
    int r = io_read_file(AT_FDCWD, path, FORMAT_MAX_BYTES, &data, &n, err);
    if (r < 0)
        return err_prefix(err, r, "manifest");
    r = decode(data, n, ret, err);
    return r < 0 ? err_prefix(err, r, "manifest '%s'", path) : 0;
}

int manifest_save(const Manifest *m, const char *path, Err *err) {
    int r = io_write_file(AT_FDCWD, path, m->bytes, m->n_bytes, 0644, err);
    return r < 0 ? err_prefix(err, r, "manifest") : 0;
}

int manifest_open(const char *path, Manifest **ret, Err *err) {
    struct stat st;
    if (stat(path, &st) < 0)
        return err_set(err, -errno, "cannot find the model '%s': %s", path, strerror(errno));
    return S_ISDIR(st.st_mode) ? manifest_scan(path, 0, ret, err) : manifest_load(path, ret, err);
}

static bool same_files(const Manifest *a, const Manifest *b) {
    if (a->head.n_files != b->head.n_files || !str_eq(a->root, b->root))
        return false;
    for (uint32_t i = 0; i < a->head.n_files; i++) {
        const ManifestFile *x = &a->file[i], *y = &b->file[i];
        if (!str_eq(x->path, y->path) || x->bytes != y->bytes || x->mtime_nsec != y->mtime_nsec ||
                !digest_eq(&x->head_digest, &y->head_digest))
            return false;
    }
    return true;
}

static bool same_smalls(const Manifest *a, const Manifest *b) {
    if (a->head.n_smalls != b->head.n_smalls)
        return false;
    for (uint32_t i = 0; i < a->head.n_smalls; i++) {
        const ManifestSmall *x = &a->small[i], *y = &b->small[i];
        if (!str_eq(x->path, y->path) || x->bytes != y->bytes ||
                memcmp(x->data, y->data, x->bytes) != 0)
            return false;
    }
    return true;
}

int manifest_open_kept(const char *path, const char *kept, Manifest **ret, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL, *other = NULL;
    int r = manifest_open(path, &m, err);
    if (r < 0)
        return r;
    bool better = !manifest_has_digests(m) && manifest_load(kept, &other, NULL) == 0 &&
                  manifest_has_digests(other) && same_files(m, other) && same_smalls(m, other);
    *ret = better ? TAKE_PTR(other) : TAKE_PTR(m);
    return 0;
}

char *manifest_kept_path(const char *state_dir, const char *name) {
    return str_format("%s/models/%s.manifest", state_dir, name);
}

Manifest *manifest_free(Manifest *m) {
    if (m) {
        arena_done(&m->arena);
        free((char *)m->bytes);
        free(m);
    }
    return NULL;
}

const char *manifest_root(const Manifest *m) {
    return m->root;
}

int manifest_set_root(Manifest *m, const char *root, Err *err) {
    const char *copy = arena_strndup(&m->arena, root, strlen(root));
    if (!copy)
        return err_set(err, -ENOMEM, "no memory for a path");
    m->root = copy;
    return 0;
}

Digest manifest_digest(const Manifest *m) {
    return m->head.digest;
}

bool manifest_has_digests(const Manifest *m) {
    return m->head.flags & FORMAT_HAS_DIGESTS;
}

uint64_t manifest_segment_bytes(const Manifest *m) {
    return m->head.segment_bytes;
}

uint64_t manifest_weight_bytes(const Manifest *m) {
    return m->weight_bytes;
}

size_t manifest_n_files(const Manifest *m) {
    return m->head.n_files;
}

const ManifestFile *manifest_file(const Manifest *m, size_t i) {
    assert(i < m->head.n_files);
    return &m->file[i];
}

size_t manifest_n_tensors(const Manifest *m) {
    return m->head.n_tensors;
}

const ManifestTensor *manifest_tensor(const Manifest *m, size_t i) {
    assert(i < m->head.n_tensors);
    return &m->tensor[i];
}

static int by_name(const void *a, const void *b) {
    return tensor_compare(a, b);
}

const ManifestTensor *manifest_find_tensor(const Manifest *m, const char *part, const char *name) {
    ManifestTensor key = {.part = part, .name = name};
    return bsearch(&key, m->tensor, m->head.n_tensors, sizeof(key), by_name);
}

size_t manifest_n_chunks(const Manifest *m) {
    return m->head.n_chunks;
}

const ManifestChunk *manifest_chunk(const Manifest *m, size_t i) {
    assert(i < m->head.n_chunks);
    return &m->chunk[i];
}

uint64_t manifest_chunk_segment_offset(const Manifest *m, size_t i) {
    const ManifestChunk *c = manifest_chunk(m, i);
    return m->file[c->file].segment_offset + c->offset;
}

size_t manifest_n_smalls(const Manifest *m) {
    return m->head.n_smalls;
}

const ManifestSmall *manifest_small(const Manifest *m, size_t i) {
    assert(i < m->head.n_smalls);
    return &m->small[i];
}

size_t manifest_chunk_at(const Manifest *m, uint64_t segment_offset) {
    assert(segment_offset >= SEGMENT_PAGE && segment_offset < m->head.segment_bytes);
    size_t low = 0, high = m->head.n_chunks;
    while (high - low > 1) { /* chunk low begins at or before the offset, chunk high behind it */
        size_t middle = (low + high) / 2;
        if (manifest_chunk_segment_offset(m, m->chunk_by_offset[middle]) <= segment_offset)
            low = middle;
        else
            high = middle;
    }
    return m->chunk_by_offset[low];
}
