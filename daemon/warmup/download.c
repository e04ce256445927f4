#include "warmup/download.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/size.h"
#include "base/str.h"
#include "store/manifest-format.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

DEFINE_CLEANUP(Manifest, manifest_free)

#define TICK_USEC ((uint64_t)200000)
enum { READ_BYTES = 1 << 20, DIR_MODE = 0750, FILE_MODE = 0640 };

/* Owner: the thread in download_files() or download_manifest(). */
typedef struct Download {
    const Manifest *m; /* NULL before there is one */
    Remote *remote;
    const DownloadOptions *o;
    DownloadReport *report;
    int root;
    char *buffer;      /* READ_BYTES */
    bool *have;        /* [n_chunks] verified */
    uint8_t *attempts; /* [n_chunks] that came with another digest */
    uint64_t done_bytes, received_before;

    uint32_t file; /* the one that is fetched */
    int part;      /* its .part */
} Download;

/* A chunk on its way. */
typedef struct Trip {
    RemoteGet get;
    Download *d;
    size_t chunk;
    bool busy;
} Trip;

static bool is_stopped(const atomic_bool *stop) {
    return stop && atomic_load_explicit(stop, memory_order_relaxed);
}

static void tell(const Download *d) {
    if (!d->o->progress)
        return;
    DownloadProgress p = {.done_bytes = d->done_bytes,
            .total_bytes = d->m ? manifest_weight_bytes(d->m) : 0,
            .received_bytes = remote_received(d->remote) - d->received_before};
    d->o->progress(d->o->context, &p);
}

static int canceled(const Download *d, Err *err) {
    char have[STR_BYTES_SIZE], all[STR_BYTES_SIZE];
    return err_set(err, -ECANCELED, "told to stop with %s of %s fetched, which stay",
            str_bytes(have, (double)d->done_bytes),
            str_bytes(all, (double)manifest_weight_bytes(d->m)));
}

static const char *path_of(const Download *d) {
    return manifest_file(d->m, d->file)->path;
}

static void chunk_is_there(Download *d, size_t chunk) {
    d->have[chunk] = true;
    d->done_bytes += manifest_chunk(d->m, chunk)->bytes;
}

/* What stands in the .part, whoever wrote it. */
static int verify_chunk(const Download *d, size_t chunk, Err *err) {
    const ManifestChunk *c = manifest_chunk(d->m, chunk);
    DigestState *digest = digest_state_new();
    if (!digest)
        return err_set(err, -ENOMEM, "no memory to compute digests");
    uint64_t done = 0;
    ssize_t n = 0;
    while (done < c->bytes) {
        size_t part = (size_t)MIN(c->bytes - done, (uint64_t)READ_BYTES);
        n = io_pread_all(d->part, d->buffer, part, c->offset + done);
        if (n <= 0)
            break;
        digest_state_add(digest, d->buffer, (size_t)n);
        done += (uint64_t)n;
    }
    Digest found = digest_state_get(digest);
    digest_state_free(digest);
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s/%s.part' at byte %ju: %s", manifest_root(d->m),
                path_of(d), (uintmax_t)(c->offset + done), strerror((int)-n));
    if (!digest_eq(&found, &c->digest))
        return err_set(err, -EBADMSG,
                "'%s/%s': the %ju bytes from %ju on have the digest %s, the manifest says %s",
                remote_source(d->remote), path_of(d), (uintmax_t)c->bytes, (uintmax_t)c->offset,
                digest_hex(&found, a), digest_hex(&c->digest, b));
    return 0;
}

/* Holes were never written: no need to read them. */
static bool has_hole(const Download *d, const ManifestChunk *c) {
    off_t hole = lseek(d->part, (off_t)c->offset, SEEK_HOLE);
    return hole < 0 || (uint64_t)hole < c->offset + c->bytes;
}

static int look_at_part(Download *d, Err *err) {
    for (size_t i = 0; i < manifest_n_chunks(d->m); i++) {
        const ManifestChunk *c = manifest_chunk(d->m, i);
        if (c->file != d->file || has_hole(d, c))
            continue;
        if (is_stopped(d->o->stop))
            return canceled(d, err);
        if (verify_chunk(d, i, NULL) == 0) {
            chunk_is_there(d, i);
            d->report->kept_bytes += c->bytes;
        }
        tell(d);
    }
    return 0;
}

static int write_at(const Download *d, Err *err, uint64_t at, const void *data, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t r = pwrite(d->part, (const char *)data + done, n - done, (off_t)(at + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_set(err, -errno, "cannot write '%s/%s.part' at byte %ju: %s",
                    manifest_root(d->m), path_of(d), (uintmax_t)(at + done), strerror(errno));
        done += (size_t)r;
    }
    return 0;
}

static int take_chunk_bytes(RemoteGet *g, uint64_t at, const void *data, size_t n) {
    return write_at(((const Trip *)g->context)->d, &g->err, at, data, n);
}

static void set_out(Trip *t, size_t chunk, uint64_t not_before) {
    const ManifestChunk *c = manifest_chunk(t->d->m, chunk);
    t->chunk = chunk;
    t->busy = true;
    t->get = (RemoteGet){.path = path_of(t->d),
            .offset = c->offset,
            .bytes = c->bytes,
            .file_bytes = manifest_file(t->d->m, t->d->file)->bytes,
            .not_before = not_before,
            .take = take_chunk_bytes,
            .context = t};
    remote_submit(t->d->remote, &t->get);
}

/* The pause before the next attempt, 0 when there is none. */
static uint64_t next_attempt(Download *d, size_t chunk) {
    if (d->attempts[chunk] >= d->o->retries)
        return 0;
    int doublings = MIN((int)d->attempts[chunk], 16);
    d->attempts[chunk]++;
    d->report->n_retries++;
    return MAX(clock_deadline(d->o->retry_delay_usec << doublings), (uint64_t)1);
}

/* A trip came back. Returns its failure; it may have set out again. */
static int arrived(Trip *t, Err *err) {
    Download *d = t->d;
    t->busy = false;
    if (t->get.result < 0) {
        *err = t->get.err;
        return t->get.result;
    }
    Err why = {0};
    int r = verify_chunk(d, t->chunk, &why);
    if (r == 0) {
        chunk_is_there(d, t->chunk);
        d->report->n_fetched++;
        return 0;
    }
    uint64_t not_before = r == -EBADMSG ? next_attempt(d, t->chunk) : 0;
    if (not_before) {
        set_out(t, t->chunk, not_before);
        return 0;
    }
    *err = why;
    return r;
}

static bool next_missing(const Download *d, size_t *next, size_t *ret) {
    while (*next < manifest_n_chunks(d->m)) {
        size_t chunk = (*next)++;
        if (manifest_chunk(d->m, chunk)->file == d->file && !d->have[chunk]) {
            *ret = chunk;
            return true;
        }
    }
    return false;
}

static size_t n_busy(const Trip *trip, int n) {
    size_t busy = 0;
    for (int i = 0; i < n; i++)
        busy += trip[i].busy;
    return busy;
}

/* The file's missing chunks, several at a time. -EOPNOTSUPP: the server has no ranges. */
static int fetch_chunks(Download *d, Trip *trip, Err *err) {
    int n = d->o->n_parallel, result = 0;
    size_t next = 0, chunk;
    for (;;) {
        if (result == 0 && is_stopped(d->o->stop))
            result = canceled(d, err);
        for (int i = 0; i < n && result == 0; i++)
            if (!trip[i].busy && next_missing(d, &next, &chunk))
                set_out(&trip[i], chunk, 0);
        if (n_busy(trip, n) == 0)
            return result;
        if (result < 0)
            remote_cancel(d->remote);
        RemoteGet *g;
        if (remote_wait(d->remote, TICK_USEC, &g) == 0) {
            Err why = {0};
            int r = arrived(g->context, &why);
            if (r < 0 && result == 0) {
                result = r;
                if (err)
                    *err = why;
            }
        }
        tell(d);
    }
}

/* The file comes from its beginning: what is missing is kept, chunk after chunk. */
static int take_file_bytes(RemoteGet *g, uint64_t at, const void *data, size_t n) {
    Download *d = g->context;
    uint64_t begin = manifest_file(d->m, d->file)->segment_offset;
    while (n > 0) {
        size_t chunk = manifest_chunk_at(d->m, begin + at);
        const ManifestChunk *c = manifest_chunk(d->m, chunk);
        size_t part = (size_t)MIN((uint64_t)n, c->offset + c->bytes - at);
        int r = d->have[chunk] ? 0 : write_at(d, &g->err, at, data, part);
        if (r < 0)
            return r;
        at += part;
        data = (const char *)data + part;
        n -= part;
        if (at == c->offset + c->bytes && !d->have[chunk] && verify_chunk(d, chunk, NULL) == 0) {
            chunk_is_there(d, chunk);
            d->report->n_fetched++;
        }
    }
    return 0;
}

/* The one request that is under way. */
static int wait_for(const Download *d, RemoteGet *g) {
    RemoteGet *done;
    while (remote_wait(d->remote, TICK_USEC, &done) == REMOTE_TIMEOUT) {
        tell(d);
        if (is_stopped(d->o->stop))
            remote_cancel(d->remote);
    }
    assert(done == g);
    return g->result;
}

static int fetch_whole(Download *d, Err *err) {
    size_t next = 0, missing;
    uint64_t not_before = 0;
    while (next_missing(d, &next, &missing)) {
        RemoteGet g = {.path = path_of(d),
                .bytes = manifest_file(d->m, d->file)->bytes,
                .file_bytes = manifest_file(d->m, d->file)->bytes,
                .not_before = not_before,
                .take = take_file_bytes,
                .context = d};
        remote_submit(d->remote, &g);
        int r = wait_for(d, &g);
        if (r == -ECANCELED)
            return canceled(d, err);
        if (r < 0) {
            if (err)
                *err = g.err;
            return r;
        }
        next = 0;
        if (!next_missing(d, &next, &missing))
            return 0;
        not_before = next_attempt(d, missing);
        if (not_before == 0) { /* the last attempt; what was wrong may have been the reading */
            r = verify_chunk(d, missing, err);
            if (r < 0)
                return r;
            chunk_is_there(d, missing);
        }
        next = 0;
    }
    return 0;
}

static int open_root(Download *d, Err *err) {
    const char *root = manifest_root(d->m);
    int r = io_make_dirs(root, DIR_MODE, err);
    if (r < 0)
        return r;
    d->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->root < 0)
        return err_set(err, -errno, "cannot open '%s': %s", root, strerror(errno));
    if (flock(d->root, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, errno == EWOULDBLOCK ? -EBUSY : -errno,
                "another process is fetching into '%s'", root);
    return 0;
}

static bool is_whole(int root, const ManifestFile *f) {
    struct stat st;
    return fstatat(root, f->path, &st, 0) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == f->bytes;
}

static int part_name(const ManifestFile *f, char **ret, Err *err) {
    *ret = str_format("%s.part", f->path);
    return *ret ? 0 : err_set(err, -ENOMEM, "no memory for a path");
}

/* What the disk must have room for. */
static int missing_bytes(const Download *d, uint64_t *ret, Err *err) {
    uint64_t sum = 0;
    for (size_t i = 0; i < manifest_n_files(d->m); i++) {
        const ManifestFile *f = manifest_file(d->m, i);
        _cleanup_free_ char *part = NULL;
        struct stat st;
        if (part_name(f, &part, err) < 0)
            return -ENOMEM;
        uint64_t has = fstatat(d->root, part, &st, 0) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
        if (!is_whole(d->root, f))
            sum += f->bytes - MIN(f->bytes, has);
    }
    *ret = sum;
    return 0;
}

static int check_room(const Download *d, Err *err) {
    uint64_t needed;
    struct statvfs fs;
    int r = missing_bytes(d, &needed, err);
    if (r < 0 || fstatvfs(d->root, &fs) < 0)
        return r; /* a file system that does not tell may have room */
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (needed <= room)
        return 0;
    return err_set(err, -ENOSPC, "'%s' needs room for %ju MiB more, there are %ju MiB",
            manifest_root(d->m), (uintmax_t)size_align(needed, MIB) / MIB, (uintmax_t)(room / MIB));
}

static int make_parent_of(const Download *d, const ManifestFile *f, Err *err) {
    _cleanup_free_ char *full = str_format("%s/%s", manifest_root(d->m), f->path);
    if (!full)
        return err_set(err, -ENOMEM, "no memory for a path");
    return io_make_dirs(dirname(full), DIR_MODE, err);
}

static int open_part(Download *d, const ManifestFile *f, const char *part, Err *err) {
    int r = make_parent_of(d, f, err);
    if (r < 0)
        return r;
    (void)renameat(d->root, f->path, d->root, part); /* one of a wrong size, if there is one */
    d->part = openat(d->root, part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
    if (d->part < 0 || ftruncate(d->part, (off_t)f->bytes) < 0)
        return err_set(err, -errno, "cannot make '%s/%s' of %ju bytes: %s", manifest_root(d->m),
                part, (uintmax_t)f->bytes, strerror(errno));
    return 0;
}

static int give_name(const Download *d, const ManifestFile *f, const char *part, Err *err) {
    _cleanup_free_ char *full = str_format("%s/%s", manifest_root(d->m), f->path);
    if (!full)
        return err_set(err, -ENOMEM, "no memory for a path");
    if (fsync(d->part) < 0 || renameat(d->root, part, d->root, f->path) < 0)
        return err_set(err, -errno, "cannot keep '%s': %s", full, strerror(errno));
    _cleanup_close_ int dir = open(dirname(full), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_set(err, -errno, "cannot sync '%s': %s", full, strerror(errno));
    return 0;
}

static int fetch_file(Download *d, Trip *trip, Err *err) {
    const ManifestFile *f = manifest_file(d->m, d->file);
    _cleanup_free_ char *part = NULL;
    if (is_whole(d->root, f)) {
        d->done_bytes += f->bytes;
        d->report->kept_bytes += f->bytes;
        return 0;
    }
    int r = part_name(f, &part, err);
    if (r == 0)
        r = open_part(d, f, part, err);
    if (r == 0)
        r = look_at_part(d, err);
    if (r == 0)
        r = fetch_chunks(d, trip, err);
    if (r == -EOPNOTSUPP) {
        log_info("%s, taking '%s' in one piece", err_text(err), f->path);
        err_clear(err);
        r = fetch_whole(d, err);
    }
    if (r == 0)
        r = give_name(d, f, part, err);
    fd_closep(&d->part);
    return r;
}

static int fetch_files(Download *d, Err *err) {
    int r = open_root(d, err);
    if (r == 0)
        r = check_room(d, err);
    Trip trip[REMOTE_MAX_CONNECTIONS] = {0};
    for (int i = 0; i < d->o->n_parallel; i++)
        trip[i].d = d;
    for (; r == 0 && d->file < manifest_n_files(d->m); d->file++)
        r = fetch_file(d, trip, err);
    tell(d);
    return r;
}

int download_files(const Manifest *m, Remote *remote, const DownloadOptions *o,
        DownloadReport *report, Err *err) {
    assert(o->n_parallel >= 1 && o->n_parallel <= REMOTE_MAX_CONNECTIONS);
    size_t n = manifest_n_chunks(m);
    _cleanup_free_ char *buffer = malloc(READ_BYTES);
    _cleanup_free_ bool *have = calloc(n, sizeof(*have));
    _cleanup_free_ uint8_t *attempts = calloc(n, sizeof(*attempts));
    *report = (DownloadReport){0};
    if (!buffer || !have || !attempts)
        return err_set(err, -ENOMEM, "no memory to fetch %zu chunks", n);
    Download d = {.m = m,
            .remote = remote,
            .o = o,
            .report = report,
            .root = -1,
            .buffer = buffer,
            .have = have,
            .attempts = attempts,
            .received_before = remote_received(remote),
            .part = -1};
    Err own = {0};
    int r = fetch_files(&d, &own);
    fd_closep(&d.root);
    if (r < 0 && err)
        *err = own;
    return r;
}

static int take_manifest_bytes(RemoteGet *g, uint64_t at, const void *data, size_t n) {
    Buf *b = g->context;
    if (at == 0)
        buf_done(b); /* another attempt */
    buf_append(b, data, n);
    return buf_failed(b) ? err_set(&g->err, -ENOMEM, "no memory for a manifest") : 0;
}

int download_manifest(Remote *remote, const DownloadOptions *o, Manifest **ret, Err *err) {
    Buf b = {0};
    const Download d = {.remote = remote, .o = o, .received_before = remote_received(remote)};
    RemoteGet g = {.path = DOWNLOAD_MANIFEST,
            .bytes = FORMAT_MAX_BYTES,
            .take = take_manifest_bytes,
            .context = &b};
    remote_submit(remote, &g);
    int r = wait_for(&d, &g);
    if (r == -ECANCELED)
        (void)err_set(err, r, "told to stop before the manifest was fetched");
    else if (r < 0 && err)
        *err = g.err;
    if (r == 0) {
        r = manifest_parse(b.data ? b.data : "", b.size, ret, err);
        if (r < 0)
            (void)err_prefix(err, r, "'%s/%s'", remote_source(remote), DOWNLOAD_MANIFEST);
    }
    buf_done(&b);
    return r;
}

bool download_is_complete(const Manifest *m) {
    _cleanup_close_ int root = open(manifest_root(m), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; root >= 0 && i < manifest_n_files(m); i++)
        if (!is_whole(root, manifest_file(m, i)))
            return false;
    return root >= 0;
}

static bool distrust_file(const Manifest *m, const ManifestFile *f) {
    _cleanup_free_ char *from = str_format("%s/%s", manifest_root(m), f->path);
    _cleanup_free_ char *to = str_format("%s/%s.part", manifest_root(m), f->path);
    return from && to && rename(from, to) == 0;
}

bool download_distrust(const Manifest *m, size_t chunk) {
    return distrust_file(m, manifest_file(m, manifest_chunk(m, chunk)->file));
}

static bool has_file(const Manifest *m, const char *path) {
    for (size_t i = 0; i < manifest_n_files(m); i++)
        if (str_eq(manifest_file(m, i)->path, path))
            return true;
    return false;
}

void download_supersede(const Manifest *old, const Manifest *m) {
    for (size_t i = 0; i < manifest_n_files(m); i++)
        (void)distrust_file(m, manifest_file(m, i)); /* there may be none */
    for (size_t i = 0; old && i < manifest_n_files(old); i++) {
        const char *path = manifest_file(old, i)->path;
        _cleanup_free_ char *file = str_format("%s/%s", manifest_root(old), path);
        _cleanup_free_ char *part = str_format("%s/%s.part", manifest_root(old), path);
        if (!file || !part || has_file(m, path))
            continue;
        (void)unlink(file);
        (void)unlink(part);
    }
}
