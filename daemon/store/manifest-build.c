#include "base/io.h"
#include "base/pool.h"
#include "base/size.h"
#include "base/str.h"
#include "store/layout.h"
#include "store/manifest-impl.h"
#include "store/nonfinite.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>

DEFINE_CLEANUP(Pool, pool_free)

enum { READ_BYTES = 4 * 1024 * 1024 };

static int manifest_from(const ManifestTables *t, Manifest **ret, Err *err) {
    _cleanup_(buf_done) Buf bytes = {0};
    int r = manifest_encode(t, &bytes, err);
    return r < 0 ? r : manifest_parse(bytes.data, bytes.size, ret, err);
}

int manifest_scan(const char *dir, uint64_t chunk_size, Manifest **ret, Err *err) {
    _cleanup_(manifest_draft_done) ManifestDraft d = {0};
    int r = layout_read(dir, &d, err);
    if (r == 0)
        r = manifest_draft_cut(&d, chunk_size, err);
    if (r < 0)
        return r;
    ManifestTables t = {.root = d.root,
            .chunk_size = chunk_size ? chunk_size : CHUNK_SIZE_DEFAULT,
            .file = (const ManifestFile *)d.files.data,
            .n_files = d.files.size / sizeof(ManifestFile),
            .tensor = (const ManifestTensor *)d.tensors.data,
            .n_tensors = d.tensors.size / sizeof(ManifestTensor),
            .chunk = (const ManifestChunk *)d.chunks.data,
            .n_chunks = d.chunks.size / sizeof(ManifestChunk),
            .small = (const ManifestSmall *)d.smalls.data,
            .n_smalls = d.smalls.size / sizeof(ManifestSmall)};
    r = manifest_from(&t, ret, err);
    return r < 0 ? err_prefix(err, r, "model '%s'", dir) : 0;
}

/* The resume file: one header, then one record for each fact, appended when a chunk is done. A
 * record that was cut by a crash, or whose check does not fit, ends the file.
 *
 *   header  16 bytes  digest of the scanned manifest (it covers sizes and times of all files)
 *   record  40 bytes  below */
typedef struct ResumeRecord {
    uint32_t kind;  /*  0  RESUME_CHUNK or RESUME_NONFINITE */
    uint32_t index; /*  4  of the chunk or the tensor */
    uint64_t count; /*  8  non-finite elements found in the chunk that the next record is about */
    Digest digest;  /* 16  of the chunk */
    uint64_t check; /* 32  first 8 bytes of the digest of the 32 bytes before */
} ResumeRecord;
static_assert(sizeof(ResumeRecord) == 40, "layout");
enum { RESUME_CHUNK = 1, RESUME_NONFINITE = 2 };

/* One reading of all chunks. Workers share it; the lock guards everything below it. */
typedef struct Work {
    const Manifest *m;
    const ManifestOptions *o;
    const int *fd;           /* [n_files] */
    const uint32_t *by_file; /* [n_tensors] tensor indices by file, then offset */
    bool counting;           /* non-finite elements too, else digests only */
    const uint8_t *known;    /* [n_chunks] 1: digest and counts are there from an earlier build */
    void **buffer;           /* [workers] of READ_BYTES */

    pthread_mutex_t lock;
    ManifestChunk *chunk;   /* digests come in here */
    ManifestTensor *tensor; /* counts come in here */
    uint64_t done_bytes, total_bytes;
    int resume_fd;
    int result;
    Err err;
} Work;

static void fail(Work *w, int code, const Err *e) {
    (void)pthread_mutex_lock(&w->lock);
    if (w->result == 0) {
        w->result = code;
        w->err = *e;
    }
    (void)pthread_mutex_unlock(&w->lock);
}

static bool failed(Work *w) {
    (void)pthread_mutex_lock(&w->lock);
    bool yes = w->result < 0;
    (void)pthread_mutex_unlock(&w->lock);
    return yes;
}

static int progress(Work *w, uint64_t bytes) {
    (void)pthread_mutex_lock(&w->lock);
    w->done_bytes += bytes;
    int r = w->result;
    if (r == 0 && w->o->progress) {
        r = w->o->progress(w->o->context, w->done_bytes, w->total_bytes);
        if (r < 0) {
            w->result = r;
            (void)err_set(&w->err, r, "stopped");
        }
    }
    (void)pthread_mutex_unlock(&w->lock);
    return r;
}

/* The first of by_file whose tensor ends behind the byte. */
static size_t first_tensor(const Work *w, uint32_t file, uint64_t at) {
    size_t low = 0, high = w->m->head.n_tensors;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const ManifestTensor *t = &w->m->tensor[w->by_file[middle]];
        if (t->file < file || (t->file == file && t->offset + t->bytes <= at))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Pieces begin on a multiple of 2 MiB and elements are aligned, so none is cut in two. Counts of
 * this chunk go to `found` as records. */
static void count_piece(const Work *w, const ManifestChunk *c, uint64_t at, const char *data,
        size_t n, Buf *found) {
    for (size_t i = first_tensor(w, c->file, at); i < w->m->head.n_tensors; i++) {
        const ManifestTensor *t = &w->m->tensor[w->by_file[i]];
        if (t->file != c->file || t->offset >= at + n)
            break;
        uint64_t begin = MAX(t->offset, at), end = MIN(t->offset + t->bytes, at + n);
        uint64_t count = nonfinite_count(t->dtype, data + (begin - at), end - begin);
        if (count) {
            ResumeRecord r = {.kind = RESUME_NONFINITE, .index = w->by_file[i], .count = count};
            buf_append(found, &r, sizeof(r));
        }
    }
}

static uint64_t record_check(const ResumeRecord *r) {
    Digest d = digest_of(r, offsetof(ResumeRecord, check));
    uint64_t check;
    memcpy(&check, d.byte, sizeof(check));
    return check;
}

/* Counts first, their chunk last: a chunk that is in the file has its counts there too. */
static int finish_chunk(Work *w, uint32_t index, const Digest *digest, Buf *found) {
    ResumeRecord last = {.kind = RESUME_CHUNK, .index = index, .digest = *digest};
    buf_append(found, &last, sizeof(last));
    if (buf_failed(found))
        return -ENOMEM;
    ResumeRecord *r = (ResumeRecord *)found->data;
    size_t n = found->size / sizeof(*r);
    for (size_t i = 0; i < n; i++)
        r[i].check = record_check(&r[i]);

    (void)pthread_mutex_lock(&w->lock);
    w->chunk[index].digest = *digest;
    for (size_t i = 0; i + 1 < n; i++)
        w->tensor[r[i].index].n_nonfinite += r[i].count;
    int rc = w->resume_fd >= 0 ? io_write_all(w->resume_fd, found->data, found->size) : 0;
    (void)pthread_mutex_unlock(&w->lock);
    return rc;
}

static int read_chunk(Work *w, uint32_t index, char *buffer, DigestState *s, Buf *found, Err *err) {
    const ManifestChunk *c = &w->m->chunk[index];
    const char *path = w->m->file[c->file].path;
    for (uint64_t done = 0; done < c->bytes;) {
        size_t n = MIN(c->bytes - done, (uint64_t)READ_BYTES);
        ssize_t got = io_pread_all(w->fd[c->file], buffer, n, c->offset + done);
        if (got < 0)
            return err_set(err, (int)got, "cannot read '%s' at byte %ju: %s", path,
                    (uintmax_t)(c->offset + done), strerror((int)-got));
        if ((size_t)got < n)
            return err_set(err, -EBADMSG, "'%s' ends at byte %ju, it had %ju", path,
                    (uintmax_t)(c->offset + done + (uint64_t)got),
                    (uintmax_t)w->m->file[c->file].bytes);
        digest_state_add(s, buffer, n);
        if (w->counting)
            count_piece(w, c, c->offset + done, buffer, n, found);
        done += n;
        int r = progress(w, n);
        if (r < 0)
            return err_set(err, r, "stopped");
    }
    return 0;
}

static void work_on(void *context, int64_t begin, int64_t end, int worker) {
    Work *w = context;
    for (int64_t i = begin; i < end; i++) {
        if ((w->known && w->known[i]) || failed(w))
            continue;
        Err err = {0};
        _cleanup_(buf_done) Buf found = {0};
        DigestState *s = digest_state_new();
        int r = s ? read_chunk(w, (uint32_t)i, w->buffer[worker], s, &found, &err)
                  : err_set(&err, -ENOMEM, "no memory to compute digests");
        if (r == 0) {
            Digest d = digest_state_get(s);
            r = finish_chunk(w, (uint32_t)i, &d, &found);
            if (r < 0)
                (void)err_set(&err, r, "cannot keep the digest of a chunk: %s", strerror(-r));
        }
        digest_state_free(s);
        if (r < 0)
            fail(w, r, &err);
    }
}

static int open_files(const Manifest *m, int *fd, Err *err) {
    _cleanup_close_ int root = open(m->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_set(err, -errno, "cannot open '%s': %s", m->root, strerror(errno));
    for (uint32_t i = 0; i < m->head.n_files; i++) {
        fd[i] = openat(root, m->file[i].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd[i] < 0)
            return err_set(err, -errno, "cannot open '%s': %s", m->file[i].path, strerror(errno));
        struct stat st;
        if (fstat(fd[i], &st) < 0 || !S_ISREG(st.st_mode) ||
                (uint64_t)st.st_size != m->file[i].bytes)
            return err_set(err, -ESTALE, "'%s' is no longer a file of %ju bytes", m->file[i].path,
                    (uintmax_t)m->file[i].bytes);
    }
    return 0;
}

static int by_file(const void *a, const void *b, void *context) {
    const Manifest *m = context;
    const ManifestTensor *x = &m->tensor[*(const uint32_t *)a],
                         *y = &m->tensor[*(const uint32_t *)b];
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    uint64_t p = x->offset + x->bytes, q = y->offset + y->bytes;
    return p < q ? -1 : p > q;
}

/* Buffers, pool and loop; w's inputs are set. */
static int work_all(Work *w, Err *err) {
    _cleanup_(pool_freep) Pool *pool = NULL;
    int r = pool_new(w->o->n_threads, &pool, err);
    if (r < 0)
        return r;
    int n = pool_size(pool);
    _cleanup_free_ void **buffer = calloc((size_t)n, sizeof(*buffer));
    _cleanup_free_ char *memory = malloc((size_t)n * READ_BYTES);
    if (!buffer || !memory)
        return err_set(err, -ENOMEM, "no memory for %d read buffers", n);
    for (int i = 0; i < n; i++)
        buffer[i] = memory + (size_t)i * READ_BYTES;
    w->buffer = buffer;
    (void)pthread_mutex_init(&w->lock, NULL); /* default attributes: cannot fail on Linux */
    pool_for(pool, w->m->head.n_chunks, 1, work_on, w);
    (void)pthread_mutex_destroy(&w->lock);
    if (w->result < 0 && err)
        *err = w->err;
    return w->result;
}

static int read_all(Work *w, Err *err) {
    const Manifest *m = w->m;
    _cleanup_free_ int *fd = malloc(m->head.n_files * sizeof(*fd));
    _cleanup_free_ uint32_t *order = calloc(m->head.n_tensors + (size_t)1, sizeof(*order));
    if (!fd || !order)
        return err_set(err, -ENOMEM, "no memory to read %u files", m->head.n_files);
    for (uint32_t i = 0; i < m->head.n_files; i++)
        fd[i] = -1;
    for (uint32_t i = 0; i < m->head.n_tensors; i++)
        order[i] = i;
    qsort_r(order, m->head.n_tensors, sizeof(*order), by_file, (void *)m);
    w->fd = fd;
    w->by_file = order;
    w->total_bytes = m->weight_bytes;
    int r = open_files(m, fd, err);
    if (r == 0)
        r = work_all(w, err);
    for (uint32_t i = 0; i < m->head.n_files; i++)
        fd_closep(&fd[i]);
    return r;
}

/* Takes over what fits; returns the position behind the last good chunk record. */
static off_t take_records(Work *w, const char *data, size_t n, uint8_t *known) {
    const ResumeRecord *r = (const ResumeRecord *)(data + sizeof(Digest));
    size_t n_records = (n - sizeof(Digest)) / sizeof(*r), good = 0, pending = 0;
    for (size_t i = 0; i < n_records && r[i].check == record_check(&r[i]); i++) {
        if (r[i].kind == RESUME_NONFINITE && r[i].index < w->m->head.n_tensors)
            continue;
        if (r[i].kind != RESUME_CHUNK || r[i].index >= w->m->head.n_chunks || known[r[i].index])
            break;
        for (size_t k = pending; k < i; k++)
            w->tensor[r[k].index].n_nonfinite += r[k].count;
        pending = i + 1;
        known[r[i].index] = 1;
        w->chunk[r[i].index].digest = r[i].digest;
        w->done_bytes += w->m->chunk[r[i].index].bytes;
        good = i + 1;
    }
    return (off_t)(sizeof(Digest) + good * sizeof(*r));
}

/* Opens the resume file for appending behind what could be used of it. */
static int open_resume(Work *w, const char *path, uint8_t *known, Err *err) {
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, errno == EWOULDBLOCK ? -EBUSY : -errno,
                "another process makes this manifest, it holds '%s'", path);
    Digest wanted = w->m->head.digest;
    off_t end = 0;
    if (st.st_size >= (off_t)sizeof(Digest) && st.st_size < FORMAT_MAX_BYTES) {
        _cleanup_free_ char *data = malloc((size_t)st.st_size);
        if (!data)
            return err_set(err, -ENOMEM, "no memory to read '%s'", path);
        ssize_t n = io_pread_all(fd, data, (size_t)st.st_size, 0);
        if (n >= (ssize_t)sizeof(wanted) && memcmp(data, &wanted, sizeof(wanted)) == 0)
            end = take_records(w, data, (size_t)n, known);
    }
    int r = ftruncate(fd, end) < 0 || lseek(fd, end, SEEK_SET) < 0 ? -errno : 0;
    if (r == 0 && end == 0)
        r = io_write_all(fd, &wanted, sizeof(wanted));
    if (r < 0)
        return err_set(err, r, "cannot write '%s': %s", path, strerror(-r));
    w->resume_fd = TAKE_FD(fd);
    return 0;
}

static int build_from(const Manifest *scanned, const ManifestOptions *o, Manifest **ret, Err *err) {
    const FormatHeader *h = &scanned->head;
    _cleanup_free_ ManifestChunk *chunk = calloc(h->n_chunks, sizeof(*chunk));
    _cleanup_free_ ManifestTensor *tensor = calloc(h->n_tensors + (size_t)1, sizeof(*tensor));
    _cleanup_free_ uint8_t *known = calloc(h->n_chunks, 1);
    if (!chunk || !tensor || !known)
        return err_set(err, -ENOMEM, "no memory for the manifest");
    memcpy(chunk, scanned->chunk, h->n_chunks * sizeof(*chunk));
    memcpy(tensor, scanned->tensor, h->n_tensors * sizeof(*tensor));
    Work w = {.m = scanned,
            .o = o,
            .counting = true,
            .known = known,
            .chunk = chunk,
            .tensor = tensor,
            .resume_fd = -1};
    int r = o->resume_path ? open_resume(&w, o->resume_path, known, err) : 0;
    if (r == 0)
        r = read_all(&w, err);
    fd_closep(&w.resume_fd);
    if (r < 0)
        return r;
    ManifestTables t = {.root = scanned->root,
            .chunk_size = h->chunk_size,
            .flags = FORMAT_HAS_DIGESTS,
            .file = scanned->file,
            .n_files = h->n_files,
            .tensor = tensor,
            .n_tensors = h->n_tensors,
            .chunk = chunk,
            .n_chunks = h->n_chunks,
            .small = scanned->small,
            .n_smalls = h->n_smalls};
    return manifest_from(&t, ret, err);
}

int manifest_build(const char *dir, const ManifestOptions *o, Manifest **ret, Err *err) {
    const ManifestOptions none = {0};
    if (!o)
        o = &none;
    _cleanup_(manifest_freep) Manifest *scanned = NULL, *again = NULL, *built = NULL;
    int r = manifest_scan(dir, o->chunk_size, &scanned, err);
    if (r < 0)
        return r;
    r = build_from(scanned, o, &built, err);
    if (r == 0) /* sizes, times and headers: nothing was written to meanwhile */
        r = manifest_scan(dir, o->chunk_size, &again, err);
    if (r < 0)
        return err_prefix(err, r, "model '%s'", dir);
    Digest a = manifest_digest(scanned), b = manifest_digest(again);
    if (!digest_eq(&a, &b))
        return err_set(err, -ESTALE, "model '%s' changed while it was read", dir);
    if (o->resume_path)
        (void)unlink(o->resume_path); /* what is left of it would be ignored next time */
    *ret = TAKE_PTR(built);
    return 0;
}

static int compare_chunks(const Manifest *m, const ManifestChunk *found, Err *err) {
    for (uint32_t i = 0; i < m->head.n_chunks; i++) {
        const ManifestChunk *c = &m->chunk[i];
        char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
        if (!digest_eq(&c->digest, &found[i].digest))
            return err_set(err, -EBADMSG,
                    "'%s': the %ju bytes from %ju on have the digest %s, the manifest says %s",
                    m->file[c->file].path, (uintmax_t)c->bytes, (uintmax_t)c->offset,
                    digest_hex(&found[i].digest, a), digest_hex(&c->digest, b));
    }
    return 0;
}

int manifest_verify(const Manifest *m, const ManifestOptions *o, Err *err) {
    const ManifestOptions none = {0};
    if (!manifest_has_digests(m))
        return err_set(
                err, -EINVAL, "the manifest of '%s' has no digests to compare with", m->root);
    _cleanup_free_ ManifestChunk *chunk = calloc(m->head.n_chunks, sizeof(*chunk));
    if (!chunk)
        return err_set(err, -ENOMEM, "no memory for %u digests", m->head.n_chunks);
    Work w = {.m = m, .o = o ? o : &none, .chunk = chunk, .resume_fd = -1};
    int r = read_all(&w, err);
    if (r == 0)
        r = compare_chunks(m, chunk, err);
    return r < 0 ? err_prefix(err, r, "model '%s'", m->root) : 0;
}

static int check_header(const Manifest *m, const ManifestFile *f, int fd, Err *err) {
    _cleanup_free_ char *head = malloc(f->head_bytes + 1);
    if (!head)
        return err_set(err, -ENOMEM, "no memory for the header of '%s'", f->path);
    ssize_t n = io_pread_all(fd, head, f->head_bytes, 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", f->path, strerror((int)-n));
    Digest found = digest_of(head, (size_t)n);
    if (!digest_eq(&found, &f->head_digest))
        return err_set(
                err, -ESTALE, "'%s' has another header than when the manifest was made", f->path);
    return 0;
}

int manifest_check_headers(const Manifest *m, Err *err) {
    _cleanup_free_ int *fd = malloc(m->head.n_files * sizeof(*fd));
    if (!fd)
        return err_set(err, -ENOMEM, "no memory to open %u files", m->head.n_files);
    for (uint32_t i = 0; i < m->head.n_files; i++)
        fd[i] = -1;
    int r = open_files(m, fd, err);
    for (uint32_t i = 0; r == 0 && i < m->head.n_files; i++)
        r = check_header(m, &m->file[i], fd[i], err);
    for (uint32_t i = 0; i < m->head.n_files; i++)
        fd_closep(&fd[i]);
    return r < 0 ? err_prefix(err, r, "model '%s'", m->root) : 0;
}
