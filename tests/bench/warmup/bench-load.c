/* How long until all weights of a model are usable in this process, and what bench.py needs
 * besides:
 *
 *   bench-load read DIR                read() every file into anonymous memory, one thread
 *   bench-load mmap DIR                map every file, copy it into anonymous memory, one thread
 *   bench-load segment MANIFEST FILE   map preheat's segment, wait for every tensor, touch every
 * page bench-load direct DIR DEPTH BYTES  read every file past the page cache by io_uring, as fio
 * does bench-load drop DIR                write the files out and drop them from the page cache
 *   bench-load cached DIR              how much of the files is in the page cache
 *
 * Prints "seconds GB waiting disk": waiting is the time in which this one thread neither ran nor
 * waited for a processor, in seconds: for a disk, mostly; disk is what it had to read from one, in
 * GB. For cached, GB is what is there. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/size.h"
#include "base/str.h"
#include "store/checkpoint.h"
#include "store/weights.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)

static int fail(const Err *err) {
    (void)fprintf(stderr, "%s\n", err_text(err));
    return EXIT_FAILURE;
}

/* /proc/self/schedstat: time on a processor, time waiting for one, both in nanoseconds. */
static double running_seconds(void) {
    char text[128];
    unsigned long long ran, waited;
    if (io_read_proc("/proc/thread-self/schedstat", text, sizeof(text), NULL) < 0 ||
            sscanf(text, "%llu %llu", &ran, &waited) != 2)
        return 0;
    return (double)(ran + waited) / 1e9;
}

typedef int FileFunc(const char *path, uint64_t bytes, const void *how, uint64_t *sum, Err *err);

static int copy_file(const char *path, uint64_t bytes, const void *how, uint64_t *sum, Err *err) {
    const bool *mapped = how;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || to == MAP_FAILED)
        return err_set(err, -errno, "cannot load '%s': %s", path, strerror(errno));
    *sum += bytes;
    if (*mapped) {
        const char *from = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (from == MAP_FAILED)
            return err_set(err, -errno, "cannot map '%s': %s", path, strerror(errno));
        memcpy(to, from, bytes);
        return 0;
    }
    for (uint64_t done = 0; done < bytes;) {
        ssize_t n = read(fd, to + done, bytes - done);
        if (n <= 0)
            return err_set(err, -EIO, "cannot read '%s'", path);
        done += (uint64_t)n;
    }
    return 0;
}

static int drop_file(const char *path, uint64_t bytes, const void *how, uint64_t *sum, Err *err) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_set(err, -errno, "cannot write '%s' out: %s", path, strerror(errno));
    int r = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return r ? err_set(err, -r, "cannot drop '%s': %s", path, strerror(r)) : 0;
}

static int count_cached(
        const char *path, uint64_t bytes, const void *how, uint64_t *sum, Err *err) {
    enum { PAGE = 4096 };
    size_t n = (bytes + PAGE - 1) / PAGE;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    _cleanup_free_ unsigned char *in = malloc(n);
    if (p == MAP_FAILED || !in || mincore(p, bytes, in) < 0)
        return err_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
    for (size_t i = 0; i < n; i++)
        *sum += in[i] & 1 ? PAGE : 0;
    (void)munmap(p, bytes);
    return 0;
}

/* The least that a reader by io_uring does: `depth` registered buffers, each read again as soon as
 * it came back. */
typedef struct Direct {
    unsigned depth, bytes;
    char *buffers; /* in huge pages where there are some */
    struct io_uring *ring;
} Direct;

static void read_next(const Direct *d, int fd, unsigned i, uint64_t *at) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(d->ring);
    io_uring_prep_read_fixed(sqe, fd, d->buffers + (size_t)i * d->bytes, d->bytes, *at, (int)i);
    io_uring_sqe_set_data64(sqe, i);
    *at += d->bytes;
}

static int direct_file(const char *path, uint64_t bytes, const void *how, uint64_t *sum, Err *err) {
    const Direct *d = how;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    uint64_t at = 0;
    unsigned under_way = 0;
    for (unsigned i = 0; i < d->depth && at < bytes; i++, under_way++)
        read_next(d, fd, i, &at);
    while (under_way > 0) {
        struct io_uring_cqe *cqe;
        (void)io_uring_submit(d->ring);
        int r = io_uring_wait_cqe(d->ring, &cqe);
        if (r < 0 || cqe->res <= 0)
            return err_set(
                    err, -EIO, "cannot read '%s': %s", path, strerror(r < 0 ? -r : -cqe->res));
        *sum += (uint64_t)cqe->res;
        unsigned i = (unsigned)io_uring_cqe_get_data64(cqe);
        io_uring_cqe_seen(d->ring, cqe);
        under_way--;
        if (at < bytes) {
            read_next(d, fd, i, &at);
            under_way++;
        }
    }
    return 0;
}

static int each_file(const char *dir, FileFunc *func, const void *how, uint64_t *sum, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = manifest_scan(dir, 0, &m, err);
    for (size_t i = 0; r == 0 && i < manifest_n_files(m); i++) {
        _cleanup_free_ char *path = str_format("%s/%s", dir, manifest_file(m, i)->path);
        r = path ? func(path, manifest_file(m, i)->bytes, how, sum, err) : -ENOMEM;
    }
    return r;
}

static int read_direct(const char *dir, unsigned depth, unsigned bytes, uint64_t *sum, Err *err) {
    struct io_uring ring;
    Direct d = {.depth = depth, .bytes = bytes, .ring = &ring};
    size_t all = size_align((uint64_t)depth * bytes, 2 * MIB);
    d.buffers = mmap(NULL, all, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
    if (d.buffers == MAP_FAILED)
        d.buffers = mmap(NULL, all, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    _cleanup_free_ struct iovec *v = calloc(depth, sizeof(*v));
    if (d.buffers == MAP_FAILED || !v)
        return err_set(err, -ENOMEM, "no memory for %u buffers of %u bytes", depth, bytes);
    for (unsigned i = 0; i < depth; i++)
        v[i] = (struct iovec){d.buffers + (size_t)i * bytes, bytes};
    int r = io_uring_queue_init(depth, &ring, 0);
    if (r < 0)
        return err_set(err, r, "cannot open an io_uring: %s", strerror(-r));
    r = io_uring_register_buffers(&ring, v, depth);
    r = r < 0 ? err_set(err, r, "cannot register %u buffers: %s", depth, strerror(-r))
              : each_file(dir, direct_file, &d, sum, err);
    io_uring_queue_exit(&ring);
    return r;
}

static int load_segment(const char *manifest, const char *segment, uint64_t *sum, Err *err) {
    enum { PAGE = 4096 };
    _cleanup_(manifest_freep) Manifest *m = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *c = NULL;
    uint64_t touched = 0;
    int r = manifest_load(manifest, &m, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = weights_open(-1, segment, err);
    r = fd < 0 ? fd : checkpoint_open_segment(m, fd, segment, &c, err);
    for (size_t i = 0; r == 0 && i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        View v;
        r = checkpoint_find(c, t->part, t->name, &v, err);
        if (r == 0)
            r = checkpoint_wait(c, v, USEC_INFINITY, err);
        for (uint64_t k = 0; r == 0 && k < t->bytes; k += PAGE)
            touched += ((const unsigned char *)v.data)[k];
    }
    if (r == 0 && touched == 0) /* asked for, else nothing would need to be read */
        return err_set(err, -EBADMSG, "the segment '%s' is all zeros", segment);
    *sum = manifest_weight_bytes(m);
    return r;
}

static int run(int argc, char **argv, uint64_t *sum, Err *err) {
    static const bool yes = true, no = false;
    const char *what = argc > 2 ? argv[1] : "";
    uint64_t depth, bytes;
    if (str_eq(what, "segment") && argc == 4)
        return load_segment(argv[2], argv[3], sum, err);
    if (str_eq(what, "direct") && argc == 5 && str_to_u64(argv[3], &depth) == 0 &&
            str_to_u64(argv[4], &bytes) == 0)
        return read_direct(argv[2], (unsigned)depth, (unsigned)bytes, sum, err);
    if (argc != 3)
        what = "";
    if (str_eq(what, "read") || str_eq(what, "mmap"))
        return each_file(argv[2], copy_file, str_eq(what, "mmap") ? &yes : &no, sum, err);
    if (str_eq(what, "drop"))
        return each_file(argv[2], drop_file, NULL, sum, err);
    if (str_eq(what, "cached"))
        return each_file(argv[2], count_cached, NULL, sum, err);
    return err_set(err, -EINVAL,
            "usage: bench-load read|mmap|drop|cached DIR, segment MANIFEST FILE, direct DIR DEPTH "
            "BYTES");
}

int main(int argc, char **argv) {
    Err err = {0};
    uint64_t start = clock_usec(), sum = 0;
    double before = running_seconds();
    if (run(argc, argv, &sum, &err) < 0)
        return fail(&err);
    double wall = (double)(clock_usec() - start) / 1e6;
    double waiting = wall - (running_seconds() - before);
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u); /* cannot fail */
    (void)printf("%.6f %.6f %.6f %.6f\n", wall, (double)sum / 1e9, waiting > 0 ? waiting : 0,
            (double)u.ru_inblock * 512 / 1e9);
    return EXIT_SUCCESS;
}
