#include "test.h"

#include "../store/model.h"
#include "base/clock.h"
#include "warmup/fill.h"
#include "warmup/hugepages.h"
#include "warmup/place.h"
#include "warmup/source.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <xxhash.h>

/* Faults are put in front of libc and liburing: this program's functions come first in the search
 * for symbols. */
static struct {
    atomic_int reads;   /* data reads so far */
    int every;          /* each so many-th read of data gets the fault; 0: none */
    int error;          /* 0: short by half */
    int times;          /* at most so many; -1: always */
    int allocate_error; /* of fallocate and of populating */
    int act_at;         /* the so many-th read is followed by act() */
    void (*act)(void);
} fault;

static ssize_t spoil(ssize_t result) {
    int n = atomic_fetch_add(&fault.reads, 1) + 1;
    if (fault.act && n == fault.act_at)
        fault.act();
    if (!fault.every || n % fault.every || fault.times == 0 || result <= 0)
        return result;
    if (fault.times > 0)
        fault.times--;
    return fault.error ? fault.error : result > 4096 ? (result / 2 + 4095) & ~4095 : result;
}

ssize_t pread(int fd, void *to, size_t n, off_t at);
ssize_t pread(int fd, void *to, size_t n, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real)
        real = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    ssize_t r = spoil(real(fd, to, n, at));
    if (r >= 0)
        return r;
    errno = (int)-r;
    return -1;
}

int io_uring_wait_cqe_timeout(
        struct io_uring *ring, struct io_uring_cqe **cqe, struct __kernel_timespec *t) {
    static int (*real)(struct io_uring *, struct io_uring_cqe **, struct __kernel_timespec *);
    if (!real)
        real = (int (*)(struct io_uring *, struct io_uring_cqe **,
                struct __kernel_timespec *))dlsym(RTLD_NEXT, "io_uring_wait_cqe_timeout");
    int r = real(ring, cqe, t);
    if (r == 0)
        (*cqe)->res = (int)spoil((*cqe)->res);
    return r;
}

int madvise(void *p, size_t n, int advice) {
    static int (*real)(void *, size_t, int);
    if (!real)
        real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
    if (fault.allocate_error && advice == MADV_POPULATE_WRITE) {
        errno = fault.allocate_error;
        return -1;
    }
    return real(p, n, advice);
}

static atomic_int digests_until_none = -1; /* states that there is memory for; -1: any number */

XXH3_state_t *XXH3_createState(void) {
    static XXH3_state_t *(*real)(void);
    if (!real)
        real = (XXH3_state_t * (*)(void)) dlsym(RTLD_NEXT, "XXH3_createState");
    return digests_until_none >= 0 && digests_until_none-- == 0 ? NULL : real();
}

/* Two runs of the tests must not meet. */
static char path[64], nowhere[64], nowhere_fallback[64];

static Model model;
static Manifest *manifest;
static const ReaderKind kinds[] = {READER_URING, READER_THREADS};

static int setup(void **state) {
    (void)snprintf(path, sizeof(path), "/dev/shm/test-fill-%d", getpid());
    (void)snprintf(nowhere, sizeof(nowhere), "/nonexistent/weights/test-fill-%d", getpid());
    (void)snprintf(
            nowhere_fallback, sizeof(nowhere_fallback), "/dev/shm/preheat-test-fill-%d", getpid());
    model_make_whole(&model, 700);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 2};
    return manifest_build(model.dir, &o, &manifest, NULL);
}

static int teardown(void **state) {
    manifest_free(manifest);
    model_done(&model);
    (void)unlink(path);
    return 0;
}

static FillOptions options_for(ReaderKind kind) {
    memset(&fault, 0, sizeof(fault));
    fault.times = -1;
    return (FillOptions){.kind = kind,
            .queue_depth = 4,
            .read_size = 256 * 1024,
            .n_threads = 2,
            .retries = 2,
            .retry_delay_usec = 1000,
            .timeout_usec = 20 * USEC_PER_SEC};
}

static bool have(ReaderKind kind) {
    Reader *r;
    if (reader_open(kind, 1, &r, NULL) < 0)
        return false;
    reader_close(r);
    return true;
}

/* A new segment, filled; returns the result. Counts of states come back. */
typedef struct Outcome {
    int result;
    size_t n_ready, n_bad;
    FillReport report;
    Err err;
} Outcome;

static Outcome fill_new(const FillOptions *o) {
    Outcome x = {0};
    Segment *s;
    (void)unlink(path);
    assert_int_equal(segment_create(path, manifest, &s, NULL), 0);
    x.result = fill_segment(manifest, s, o, &x.report, &x.err);
    for (size_t i = 0; i < manifest_n_chunks(manifest); i++) {
        assert_int_not_equal(segment_state(s, i), SEGMENT_LOADING);
        x.n_bad += segment_state(s, i) == SEGMENT_BAD;
        if (segment_state(s, i) == SEGMENT_READY) {
            x.n_ready++;
            assert_int_equal(segment_verify(s, i, NULL), 0);
        }
    }
    segment_close(s);
    return x;
}

static void both_readers_fill(void **state) {
    for (size_t k = 0; k < 2; k++) {
        if (!have(kinds[k]))
            continue;
        for (int cold = 0; cold < 2; cold++) {
            FillOptions o = options_for(kinds[k]);
            for (size_t i = 0; cold && i < manifest_n_files(manifest); i++) {
                char file[256];
                (void)snprintf(
                        file, sizeof(file), "%s/%s", model.dir, manifest_file(manifest, i)->path);
                int fd = open(file, O_RDONLY);
                (void)fsync(fd);
                (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
                close(fd);
            }
            Outcome x = fill_new(&o);
            if (x.result < 0)
                fail_msg("%s", err_text(&x.err));
            assert_int_equal(x.n_ready, manifest_n_chunks(manifest));
            assert_int_equal(x.report.read_bytes, manifest_weight_bytes(manifest));
            assert_int_equal(x.report.n_retries, 0);
        }
    }
}

static void short_and_interrupted_reads_go_on(void **state) {
    static const int errors[] = {0, -EINTR};
    for (size_t k = 0; k < 2; k++)
        for (size_t e = 0; have(kinds[k]) && e < 2; e++) {
            FillOptions o = options_for(kinds[k]);
            fault.every = 3;
            fault.error = errors[e];
            Outcome x = fill_new(&o);
            if (x.result < 0)
                fail_msg("%s", err_text(&x.err));
            assert_int_equal(x.n_ready, manifest_n_chunks(manifest));
            assert_int_equal(x.report.n_retries, 0);
        }
}

/* io_uring takes O_NONBLOCK of a file at its word where the disk below cannot say in advance
 * whether it would wait: such reads come back with EAGAIN, for ever. */
static void files_are_read_blocking(void **state) {
    Source *s;
    assert_int_equal(source_open(manifest, &s, NULL), 0);
    for (size_t i = 0; i < manifest_n_chunks(manifest); i++)
        for (int cached = 0; cached < 2; cached++) {
            ReadPiece p = {0};
            source_aim(s, i, cached, &p);
            assert_int_equal(fcntl(p.fd, F_GETFL) & O_NONBLOCK, 0);
        }
    source_free(s);
}

/* A read that would have to wait, of a file that is to be waited for, is a failure as any other:
 * not tried again at once and without an end. */
static void reads_that_will_not_wait_are_given_up(void **state) {
    for (size_t k = 0; k < 2; k++) {
        if (!have(kinds[k]))
            continue;
        FillOptions o = options_for(kinds[k]);
        fault.every = 1;
        fault.error = -EAGAIN;
        Outcome x = fill_new(&o);
        assert_int_equal(x.result, -EAGAIN);
        assert_int_equal(x.n_bad, manifest_n_chunks(manifest));
    }
}

static void failing_reads_are_tried_again(void **state) {
    for (size_t k = 0; k < 2; k++) {
        if (!have(kinds[k]))
            continue;
        FillOptions o = options_for(kinds[k]);
        fault.every = 5;
        fault.error = -EIO;
        fault.times = 2;
        Outcome x = fill_new(&o);
        assert_int_equal(x.result, 0);
        assert_in_range(x.report.n_retries, 1, 2);

        o = options_for(kinds[k]); /* a disk that only fails: everything is given up in the end */
        fault.every = 1;
        fault.error = -EIO;
        x = fill_new(&o);
        assert_int_equal(x.result, -EIO);
        assert_non_null(strstr(err_text(&x.err), "Input/output error"));
        assert_int_equal(x.n_bad, manifest_n_chunks(manifest));
    }
}

/* A control group's limit on huge pages may break the kernel's promise of them. */
static void memory_that_is_not_there_is_told(void **state) {
    for (size_t k = 0; k < 2; k++) {
        if (!have(kinds[k]))
            continue;
        FillOptions o = options_for(kinds[k]);
        fault.every = 1;
        fault.error = -EFAULT;
        Outcome x = fill_new(&o);
        assert_int_equal(x.result, -ENOMEM);
        assert_int_equal(x.err.code, -ENOMEM);
        assert_true(x.report.promise_broken);
        assert_non_null(strstr(err_text(&x.err), "no memory to read"));
        assert_non_null(strstr(err_text(&x.err), "into at byte"));
        assert_int_equal(x.n_bad, manifest_n_chunks(manifest));
    }
}

static void flip(const char *file, off_t at) {
    char name[256], c;
    (void)snprintf(name, sizeof(name), "%s/%s", model.dir, file);
    int fd = open(name, O_RDWR);
    assert_int_equal(pread(fd, &c, 1, at), 1);
    c ^= 0x10;
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void damage_costs_its_chunk_only(void **state) {
    const char *file = "transformer/diffusion_pytorch_model.safetensors";
    for (size_t k = 0; k < 2; k++) {
        if (!have(kinds[k]))
            continue;
        FillOptions o = options_for(kinds[k]);
        flip(file, 5000000);
        Outcome x = fill_new(&o);
        assert_int_equal(x.result, -EBADMSG);
        assert_non_null(strstr(err_text(&x.err), file));
        assert_non_null(strstr(err_text(&x.err), "the manifest says"));
        assert_int_equal(x.n_bad, 1);
        assert_int_equal(x.n_ready, manifest_n_chunks(manifest) - 1);
        assert_int_equal(x.report.n_retries, 2);
        assert_true(x.report.bad_chunk < manifest_n_chunks(manifest));

        /* Repaired, the next run reads that chunk only. */
        flip(file, 5000000);
        Segment *s;
        FillReport report;
        assert_int_equal(segment_create(path, manifest, &s, NULL), 0);
        assert_int_equal(fill_segment(manifest, s, &o, &report, NULL), 0);
        assert_int_equal(report.n_found_ready, manifest_n_chunks(manifest) - 1);
        assert_true(report.read_bytes <= SEGMENT_PAGE);
        segment_close(s);
    }
}

static void damaged_memory_is_loaded_again(void **state) {
    FillOptions o = options_for(READER_THREADS);
    assert_int_equal(fill_new(&o).result, 0);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, (off_t)(2 * SEGMENT_PAGE + 77)), 1);
    close(fd);
    Segment *s;
    FillReport report;
    assert_int_equal(segment_create(path, manifest, &s, NULL), 0);
    assert_int_equal(fill_segment(manifest, s, &o, &report, NULL), 0);
    assert_int_equal(report.n_found_damaged, 1);
    for (size_t i = 0; i < report.n_chunks; i++)
        assert_int_equal(segment_verify(s, i, NULL), 0);
    segment_close(s);
}

static void changed_files_are_told(void **state) {
    char name[256];
    (void)snprintf(name, sizeof(name), "%s/vae/diffusion_pytorch_model.safetensors", model.dir);
    uint64_t bytes = manifest_file(manifest, 2)->bytes;
    FillOptions o = options_for(READER_AUTO);
    assert_int_equal(truncate(name, (off_t)bytes - 1), 0);
    Outcome x = fill_new(&o);
    assert_int_equal(x.result, -ESTALE);
    assert_int_equal(truncate(name, (off_t)bytes), 0);
    char moved[300];
    (void)snprintf(moved, sizeof(moved), "%s.away", name);
    assert_int_equal(rename(name, moved), 0);
    x = fill_new(&o);
    assert_int_equal(x.result, -ENOENT);
    assert_non_null(strstr(err_text(&x.err), "vae/diffusion_pytorch_model.safetensors"));
    assert_int_equal(rename(moved, name), 0);
    /* The byte that truncation lost. */
    ManifestOptions mo = {.chunk_size = SEGMENT_PAGE};
    manifest_free(manifest);
    assert_int_equal(manifest_build(model.dir, &mo, &manifest, NULL), 0);
}

static const char changing[] = "transformer/diffusion_pytorch_model.safetensors";

static void cut_it(void) {
    char name[256];
    (void)snprintf(name, sizeof(name), "%s/%s", model.dir, changing);
    assert_int_equal(truncate(name, 5 << 20), 0);
}

/* Of every page a byte, from the third chunk on. */
static void rewrite_it(void) {
    char name[256];
    (void)snprintf(name, sizeof(name), "%s/%s", model.dir, changing);
    int fd = open(name, O_WRONLY);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = (off_t)(2 * SEGMENT_PAGE); at < st.st_size; at += 4096)
        assert_int_equal(pwrite(fd, "?", 1, at), 1);
    close(fd);
}

/* Somebody writes to a file, or cuts it, while it is read: told with file and offset; what was
 * right stays, what is wrong is never ready. */
static void file_changed_while_reading(void **state) {
    static void (*const acts[])(void) = {cut_it, rewrite_it};
    char name[256], kept[300], command[700];
    (void)snprintf(name, sizeof(name), "%s/%s", model.dir, changing);
    (void)snprintf(kept, sizeof(kept), "%s.kept", name);
    (void)snprintf(command, sizeof(command), "cp -p '%s' '%s'", name, kept);
    assert_int_equal(system(command), 0);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; have(kinds[k]) && i < 2; i++) {
            FillOptions o = options_for(kinds[k]);
            fault.act = acts[i];
            fault.act_at = 30;        /* 256 KiB each: the second file has just begun */
            Outcome x = fill_new(&o); /* verifies every ready chunk */
            assert_true(x.result == -ENODATA || x.result == -EBADMSG);
            assert_non_null(strstr(err_text(&x.err), changing));
            assert_non_null(strstr(err_text(&x.err), "the manifest says"));
            assert_true(x.n_bad > 0 && x.n_ready > 3);
            (void)snprintf(command, sizeof(command), "cat '%s' >'%s'", kept, name);
            assert_int_equal(system(command), 0);
            Segment *s;
            FillReport report;
            o = options_for(kinds[k]);
            assert_int_equal(segment_create(path, manifest, &s, NULL), 0);
            assert_int_equal(fill_segment(manifest, s, &o, &report, NULL), 0);
            assert_int_equal(report.n_found_ready, x.n_ready);
            segment_close(s);
        }
    assert_int_equal(unlink(kept), 0);
}

static atomic_bool stopped;

static void stop_at_half(void *context, const FillProgress *p) {
    if (p->ready_bytes > 0)
        atomic_store(&stopped, true);
}

static void stopping_keeps_what_is_ready(void **state) {
    for (size_t k = 0; k < 2; k++) {
        if (!have(kinds[k]))
            continue;
        FillOptions o = options_for(kinds[k]);
        atomic_store(&stopped, true);
        o.stop = &stopped;
        Outcome x = fill_new(&o);
        assert_int_equal(x.result, -ECANCELED);
        assert_int_equal(x.n_ready, 0);

        atomic_store(&stopped, false);
        o.progress = stop_at_half;
        x = fill_new(&o);
        assert_true(x.result == -ECANCELED || x.result == 0);
        assert_int_equal(x.n_bad, 0);

        o = options_for(kinds[k]);
        o.timeout_usec = 0;
        x = fill_new(&o);
        assert_int_equal(x.result, -ETIMEDOUT);
        assert_non_null(strstr(err_text(&x.err), "time is up with 0 of"));

        /* Time also runs out while retries are waited for. */
        o = options_for(kinds[k]);
        fault.every = 1;
        fault.error = -EIO;
        o.retry_delay_usec = 3600 * USEC_PER_SEC;
        o.timeout_usec = 50 * USEC_PER_MSEC;
        x = fill_new(&o);
        assert_int_equal(x.result, -ETIMEDOUT);
        assert_int_equal(x.n_bad, 0);
    }
}

/* What is there is verified again before anything is read, which takes seconds with a large model:
 * a stop or the end of the time is heeded there, too, and what was not looked at stays. */
static void stopping_is_heeded_while_verifying_again(void **state) {
    FillOptions o = options_for(READER_AUTO);
    assert_int_equal(fill_new(&o).result, 0);
    for (int k = 0; k < 2; k++) {
        Segment *s;
        FillReport report;
        Err err = {0};
        o = options_for(READER_AUTO);
        atomic_store(&stopped, k == 0);
        o.stop = &stopped;
        if (k == 1)
            o.timeout_usec = 0;
        assert_int_equal(segment_create(path, manifest, &s, NULL), 0);
        assert_int_equal(fill_segment(manifest, s, &o, &report, &err), k ? -ETIMEDOUT : -ECANCELED);
        assert_int_equal(report.n_found_ready, 0);
        assert_int_equal(report.n_ready, manifest_n_chunks(manifest));
        assert_non_null(strstr(err_text(&err), "chunks loaded"));
        for (size_t i = 0; i < manifest_n_chunks(manifest); i++)
            assert_int_equal(segment_state(s, i), SEGMENT_READY);
        segment_close(s);
    }
}

static void count_progress(void *context, const FillProgress *p) {
    ++*(int *)context;
}

static void verifying_again_tells_progress(void **state) {
    FillOptions o = options_for(READER_AUTO);
    assert_int_equal(fill_new(&o).result, 0);
    Segment *s;
    FillReport report;
    int n = 0;
    o.progress = count_progress;
    o.context = &n;
    assert_int_equal(segment_create(path, manifest, &s, NULL), 0);
    assert_int_equal(fill_segment(manifest, s, &o, &report, NULL), 0);
    assert_int_equal(report.n_found_ready, manifest_n_chunks(manifest));
    assert_true(n > 0);
    segment_close(s);
}

static void scanned_manifest_is_refused(void **state) {
    Manifest *m;
    Segment *s;
    FillReport report;
    FillOptions o = options_for(READER_AUTO);
    assert_int_equal(manifest_scan(model.dir, SEGMENT_PAGE, &m, NULL), 0);
    (void)unlink(path);
    assert_int_equal(segment_create(path, m, &s, NULL), 0);
    assert_int_equal(fill_segment(m, s, &o, &report, NULL), -EINVAL);
    segment_close(s);
    manifest_free(m);
}

static void full_memory_is_told(void **state) {
    Segment *s;
    Err err = {0};
    (void)options_for(READER_AUTO);
    (void)unlink(path);
    fault.allocate_error = ENOMEM;
    assert_int_equal(segment_create(path, manifest, &s, &err), -ENOSPC);
    assert_non_null(strstr(err_text(&err), "cannot get"));
    assert_int_equal(access(path, F_OK), -1); /* nothing is left behind */

    PlaceReport report;
    err_clear(&err);
    assert_int_equal(place_open(manifest, path, 0, PLACE_PROMISED, &s, &report, &err), -ENOSPC);
    fault.allocate_error = 0;
    err_clear(&err);
    assert_int_equal(
            place_open(manifest, path, (uint64_t)1 << 60, PLACE_PROMISED, &s, &report, &err),
            -ENOMEM);
    assert_non_null(strstr(err_text(&err), "must stay so"));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(place_open(manifest, path, 0, PLACE_PROMISED, &s, &report, NULL), 0);
    assert_string_equal(report.path, path);
    assert_int_equal(report.pages_missing, report.pages_needed);
    segment_close(s);
}

static void no_memory_for_digests_is_told(void **state) {
    for (int n = 0; n < 2; n++) {
        FillOptions o = options_for(READER_THREADS);
        digests_until_none = n;
        Outcome x = fill_new(&o);
        digests_until_none = -1;
        assert_int_equal(x.result, -ENOMEM);
        assert_non_null(strstr(err_text(&x.err), "no memory to compute digests"));
        assert_int_equal(x.n_bad, 0);
    }
}

static void places_are_tried_in_turn(void **state) {
    PlaceReport report;
    Segment *s;
    (void)options_for(READER_AUTO);
    assert_int_equal(place_open(manifest, nowhere, 0, PLACE_PROMISED, &s, &report, NULL), 0);
    assert_string_equal(report.path, nowhere_fallback);
    assert_int_equal(segment_evict(nowhere, NULL), -EBUSY);
    segment_close(s);
    assert_int_equal(segment_evict(nowhere, NULL), 0);
    assert_int_equal(access(report.path, F_OK), -1);
}

/* Segments only, and not one that somebody fills. */
static void other_models_are_dropped(void **state) {
    char dir[] = "/dev/shm/preheat-test-XXXXXX", own[64], other[64], busy[64], file[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(own, sizeof(own), "%s/own", dir);
    (void)snprintf(other, sizeof(other), "%s/other", dir);
    (void)snprintf(busy, sizeof(busy), "%s/busy", dir);
    (void)snprintf(file, sizeof(file), "%s/file", dir);
    Segment *s, *b;
    (void)options_for(READER_AUTO);
    assert_int_equal(segment_create(own, manifest, &s, NULL), 0);
    segment_close(s);
    assert_int_equal(segment_create(other, manifest, &s, NULL), 0);
    segment_close(s);
    assert_int_equal(segment_create(busy, manifest, &b, NULL), 0);
    close(open(file, O_CREAT | O_RDWR, 0644));
    assert_int_equal(place_evict_others(own), 1);
    assert_int_equal(access(own, F_OK), 0);
    assert_int_equal(access(other, F_OK), -1);
    assert_int_equal(access(busy, F_OK), 0);
    assert_int_equal(access(file, F_OK), 0);
    segment_close(b);
    (void)unlink(own);
    (void)unlink(busy);
    (void)unlink(file);
    assert_int_equal(rmdir(dir), 0);
}

static void counters_are_raised_never_lowered(void **state) {
    static const char *const names[] = {"nr_hugepages", "free_hugepages", "resv_hugepages",
            "surplus_hugepages", "nr_overcommit_hugepages"};
    char dir[] = "/tmp/preheat-test-XXXXXX", file[128], text[32];
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < 5; i++) {
        (void)snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        int fd = open(file, O_WRONLY | O_CREAT, 0644);
        (void)snprintf(text, sizeof(text), "%d\n", (int)(10 - i));
        assert_true(write(fd, text, strlen(text)) > 0);
        close(fd);
    }
    HugePages h;
    assert_int_equal(hugepages_read(dir, &h, NULL), 0);
    assert_int_equal(h.total, 10);
    assert_int_equal(hugepages_available(&h), 1); /* 9 free, 8 promised; 7 surplus of 6 */
    assert_int_equal(hugepages_reserve(dir, HUGEPAGES_SURPLUS, 5, NULL, &h, NULL), 0);
    assert_int_equal(h.overcommit, 6);
    assert_int_equal(hugepages_reserve(dir, HUGEPAGES_SURPLUS, 50, NULL, &h, NULL), 0);
    assert_int_equal(h.overcommit, 50);
    assert_int_equal(hugepages_reserve(dir, HUGEPAGES_PERMANENT, 2, NULL, &h, NULL), 0);
    assert_int_equal(h.total, 10);
    assert_int_equal(hugepages_reserve(dir, HUGEPAGES_PERMANENT, 40, NULL, &h, NULL), 0);
    assert_int_equal(h.total, 40);
    /* The GPU's node gives what is missing; what it does not, as this file which is no kernel's,
     * comes from anywhere. */
    char node[] = "/tmp/preheat-test-XXXXXX", there[128];
    assert_non_null(mkdtemp(node));
    (void)snprintf(there, sizeof(there), "%s/nr_hugepages", node);
    FILE *f = fopen(there, "w");
    assert_true(f && fputs("3\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    /* 40 pages, 7 of them surplus: 17 are missing. */
    assert_int_equal(hugepages_reserve(dir, HUGEPAGES_PERMANENT, 50, node, &h, NULL), 0);
    assert_int_equal(h.total, 50);
    f = fopen(there, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    (void)fclose(f);
    assert_string_equal(text, "20");
    (void)unlink(there);
    (void)rmdir(node);
    for (size_t i = 0; i < 5; i++) {
        (void)snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        (void)unlink(file);
    }
    (void)rmdir(dir);
    Err err = {0};
    assert_int_equal(hugepages_read(dir, &h, &err), -ENOTSUP);
}

static void unbroken_pages_are_counted(void **state) {
    assert_int_equal(hugepages_unbroken(""), 0);
    assert_int_equal(
            hugepages_unbroken("Node 0, zone      DMA      0      0      0      0      0      0 "
                               "     0      0      1      1      3 \n"
                               "Node 0, zone    DMA32      9      9      9      9      9      9 "
                               "     9      9      9      0    752 \n"
                               "Node 1, zone   Normal   2982    681    206     83     35   1856 "
                               "  7569   3268    874      1    954\n"),
            1 + 2 * 3 + 2 * 752 + 1 + 2 * 954);
    assert_int_equal(hugepages_unbroken("zone\nzone Normal\nNode 0, zone X 1 2 3\nrubbish"), 0);
}

static void default_size_is_told(void **state) {
    assert_int_equal(hugepages_default_bytes(""), 0);
    assert_int_equal(hugepages_default_bytes("Hugepagesize:"), 0);
    assert_int_equal(hugepages_default_bytes("HugePages_Surp:        0\n"
                                             "Hugepagesize:       2048 kB\n"
                                             "Hugetlb:               0 kB\n"),
            HUGEPAGE_BYTES);
    assert_int_equal(hugepages_default_bytes("Hugepagesize:    1048576 kB\n"), (uint64_t)1 << 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(both_readers_fill),
            cmocka_unit_test(short_and_interrupted_reads_go_on),
            cmocka_unit_test(files_are_read_blocking),
            cmocka_unit_test(reads_that_will_not_wait_are_given_up),
            cmocka_unit_test(failing_reads_are_tried_again),
            cmocka_unit_test(memory_that_is_not_there_is_told),
            cmocka_unit_test(damage_costs_its_chunk_only),
            cmocka_unit_test(damaged_memory_is_loaded_again),
            cmocka_unit_test(changed_files_are_told),
            cmocka_unit_test(file_changed_while_reading),
            cmocka_unit_test(stopping_keeps_what_is_ready),
            cmocka_unit_test(stopping_is_heeded_while_verifying_again),
            cmocka_unit_test(verifying_again_tells_progress),
            cmocka_unit_test(scanned_manifest_is_refused),
            cmocka_unit_test(full_memory_is_told),
            cmocka_unit_test(no_memory_for_digests_is_told),
            cmocka_unit_test(places_are_tried_in_turn),
            cmocka_unit_test(other_models_are_dropped),
            cmocka_unit_test(unbroken_pages_are_counted),
            cmocka_unit_test(default_size_is_told),
            cmocka_unit_test(counters_are_raised_never_lowered),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
