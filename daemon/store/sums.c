#include "store/sums.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/pool.h"
#include "base/str.h"
#include "store/sha256.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

DEFINE_CLEANUP(Pool, pool_free)

enum { MAX_LIST = 1024 * 1024, READ_BYTES = 1024 * 1024 };

typedef struct Line {
    uint8_t sum[SHA256_BYTES];
    const char *path; /* in the list's text */
} Line;

/* Workers share it; the lock guards what is below it. */
typedef struct Check {
    const Line *line;
    const ManifestOptions *o;
    int root;
    uint64_t total_bytes;

    pthread_mutex_t lock;
    uint64_t done_bytes;
    int result;
    Err err;
} Check;

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_sum(const char *text, uint8_t ret[static SHA256_BYTES]) {
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        int high = hex_value(text[2 * i]), low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool leaves_directory(const char *path) {
    if (path[0] == '/')
        return true;
    for (const char *c = path; *c; c += strcspn(c, "/"), c += *c == '/')
        if (str_starts(c, "..") && (c[2] == '/' || c[2] == '\0'))
            return true;
    return false;
}

static int parse_line(const char *text, Line *ret) {
    if (!parse_sum(text, ret->sum))
        return -EINVAL;
    text += 2 * (size_t)SHA256_BYTES;
    if (text[0] != ' ' || (text[1] != ' ' && text[1] != '*') || !text[2])
        return -EINVAL;
    ret->path = str_starts(text + 2, "./") ? text + 4 : text + 2;
    return *ret->path && !leaves_directory(ret->path) ? 0 : -EINVAL;
}

/* Cuts the text at its line ends. */
static int parse_list(char *text, Buf *lines, Err *err) {
    char *rest = text, *one;
    for (size_t number = 1; (one = strsep(&rest, "\n")); number++) {
        Line line;
        one[strcspn(one, "\r")] = '\0';
        if (!*one || *one == '#')
            continue;
        if (parse_line(one, &line) < 0)
            return err_set(err, -EINVAL,
                    "line %zu, '%.100s', is not a SHA-256 sum, two spaces and a path below the "
                    "model",
                    number, one);
        buf_append(lines, &line, sizeof(line));
    }
    return buf_failed(lines) ? err_set(err, -ENOMEM, "no memory for its lines") : 0;
}

static int account(Check *c, uint64_t bytes) {
    (void)pthread_mutex_lock(&c->lock);
    c->done_bytes += bytes;
    int r = c->result;
    if (r == 0 && c->o->progress)
        r = c->o->progress(c->o->context, c->done_bytes, c->total_bytes);
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

static const char *sum_text(const uint8_t sum[static SHA256_BYTES], char text[static 65]) {
    for (size_t i = 0; i < SHA256_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", sum[i]); /* exactly two digits and a NUL */
    return text;
}

static int read_sum(Check *c, const char *path, uint8_t ret[static SHA256_BYTES], Err *err) {
    _cleanup_close_ int fd = openat(c->root, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_free_ char *buffer = malloc(READ_BYTES);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || !buffer)
        return err_set(err, buffer ? -EINVAL : -ENOMEM, "cannot read '%s' as a file", path);
    Sha256 s;
    sha256_init(&s);
    for (;;) {
        ssize_t n = io_read_all(fd, buffer, READ_BYTES);
        if (n < 0)
            return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
        sha256_add(&s, buffer, (size_t)n);
        int r = account(c, (uint64_t)n);
        if (r < 0)
            return err_set(err, r, "stopped");
        if (n < READ_BYTES)
            break;
    }
    sha256_finish(&s, ret);
    return 0;
}

static int check_file(Check *c, const Line *line, Err *err) {
    uint8_t sum[SHA256_BYTES];
    char found[65], wanted[65];
    int r = read_sum(c, line->path, sum, err);
    if (r == 0 && memcmp(sum, line->sum, sizeof(sum)) != 0)
        r = err_set(err, -EBADMSG, "'%s' has the SHA-256 sum %s, the list says %s", line->path,
                sum_text(sum, found), sum_text(line->sum, wanted));
    return r;
}

static void check_some(void *context, int64_t begin, int64_t end, int worker) {
    Check *c = context;
    for (int64_t i = begin; i < end; i++) {
        Err err = {0};
        int r = account(c, 0);
        if (r == 0)
            r = check_file(c, &c->line[i], &err);
        if (r == 0)
            continue;
        (void)pthread_mutex_lock(&c->lock);
        if (c->result == 0) {
            c->result = r;
            if (err.code < 0)
                c->err = err;
        }
        (void)pthread_mutex_unlock(&c->lock);
    }
}

static int check_all(Check *c, size_t n, Err *err) {
    _cleanup_(pool_freep) Pool *pool = NULL;
    int r = pool_new(c->o->n_threads, &pool, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        if (fstatat(c->root, c->line[i].path, &st, 0) == 0)
            c->total_bytes += (uint64_t)st.st_size;
    }
    (void)pthread_mutex_init(&c->lock, NULL); /* default attributes: cannot fail on Linux */
    pool_for(pool, (int64_t)n, 1, check_some, c);
    (void)pthread_mutex_destroy(&c->lock);
    if (c->result < 0 && err)
        *err = c->err;
    return c->result;
}

static size_t count_unlisted(const Manifest *m, const Line *line, size_t n) {
    size_t unlisted = 0;
    for (size_t i = 0; i < manifest_n_files(m); i++) {
        size_t k = 0;
        while (k < n && !str_eq(line[k].path, manifest_file(m, i)->path))
            k++;
        unlisted += k == n;
    }
    return unlisted;
}

int sums_check(const Manifest *m, const char *list_path, const ManifestOptions *o, SumsReport *ret,
        Err *err) {
    const ManifestOptions none = {0};
    _cleanup_free_ char *text = NULL;
    _cleanup_(buf_done) Buf lines = {0};
    size_t n;
    int r = io_read_file(AT_FDCWD, list_path, MAX_LIST, &text, &n, err);
    if (r < 0)
        return r;
    r = parse_list(text, &lines, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", list_path);
    _cleanup_close_ int root = open(manifest_root(m), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_set(
                err, -errno, "cannot open the model '%s': %s", manifest_root(m), strerror(errno));
    Check c = {.line = (const Line *)lines.data, .o = o ? o : &none, .root = root};
    n = lines.size / sizeof(Line);
    r = check_all(&c, n, err);
    if (r == 0)
        *ret = (SumsReport){n, count_unlisted(m, c.line, n)};
    return r < 0 ? err_prefix(err, r, "model '%s'", manifest_root(m)) : 0;
}
