/* A segment in several files: two directories, of which the first has memory for some chunks only.
 */
#include "test.h"

#include "base/cleanup.h"
#include "model.h"
#include "store/checkpoint.h"
#include "store/segment-impl.h"
#include "store/weights.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* Put in front of libc's: populating fails once `budget` bytes were populated; then `refill` is the
 * budget of the next place. */
static struct {
    uint64_t budget, refill;
    int fail_link_at; /* the n-th linkat fails; 0: none */
    int kill_link_at; /* the n-th linkat is this process's last act */
} fault;

int madvise(void *p, size_t n, int advice) {
    static int (*real)(void *, size_t, int);
    if (!real)
        real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
    if (advice != MADV_POPULATE_WRITE)
        return real(p, n, advice);
    if (n > fault.budget) {
        fault.budget = fault.refill;
        errno = ENOMEM;
        return -1;
    }
    fault.budget -= n;
    return real(p, n, advice);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    static int (*real)(int, const char *, int, const char *, int);
    if (!real)
        real = (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
    if (fault.fail_link_at && --fault.fail_link_at == 0) {
        errno = EIO;
        return -1;
    }
    if (fault.kill_link_at && --fault.kill_link_at == 0)
        (void)kill(getpid(), SIGKILL);
    return real(a, from, b, to, flags);
}

static Model model;
static Manifest *m;
static char base[] = "/dev/shm/preheat-test-XXXXXX";
static char path[128], shared[128];
enum { FEW = 3 }; /* chunks of 2 MiB that the first place has memory for */

static void unlimited(void) {
    memset(&fault, 0, sizeof(fault));
    fault.budget = fault.refill = UINT64_MAX;
}

static void limited(void) {
    unlimited();
    fault.budget = (1 + FEW) * SEGMENT_PAGE; /* the header page too */
}

static int setup(void **state) {
    unlimited();
    assert_non_null(mkdtemp(base));
    (void)snprintf(path, sizeof(path), "%s/weights", base);
    assert_int_equal(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/shared", base);
    assert_int_equal(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/weights/files-%d", base, getpid());
    (void)snprintf(shared, sizeof(shared), "%s/shared/files-%d", base, getpid());
    model_make_whole(&model, 700);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 2};
    return manifest_build(model.dir, &o, &m, NULL);
}

static int teardown(void **state) {
    unlimited();
    (void)segment_evict(path, NULL);
    manifest_free(m);
    model_done(&model);
    char *dir = strdup(path);
    *strrchr(dir, '/') = '\0';
    (void)rmdir(dir);
    free(dir);
    dir = strdup(shared);
    *strrchr(dir, '/') = '\0';
    (void)rmdir(dir);
    free(dir);
    return rmdir(base);
}

static void load(Segment *s, size_t chunk) {
    const ManifestChunk *c = manifest_chunk(m, chunk);
    char file[256];
    (void)snprintf(file, sizeof(file), "%s/%s", manifest_root(m), manifest_file(m, c->file)->path);
    int fd = open(file, O_RDONLY);
    uint64_t bytes, room;
    void *to = segment_chunk(s, chunk, &bytes, &room);
    assert_int_equal(pread(fd, to, c->bytes, (off_t)c->offset), c->bytes);
    assert_int_equal(segment_verify(s, chunk, NULL), 0);
    segment_set(s, chunk, SEGMENT_READY);
    close(fd);
}

/* In two files, filled. */
static void make_spread(void) {
    Segment *s;
    Err err = {0};
    unlimited();
    assert_int_equal(segment_evict(path, NULL), 0);
    limited();
    if (segment_create(path, m, &s, &err) < 0)
        fail_msg("%s", err_text(&err));
    for (size_t i = 0; i < manifest_n_chunks(m); i++)
        load(s, i);
    segment_close(s);
    unlimited();
}

static bool exists(const char *file) {
    return access(file, F_OK) == 0;
}

static int open_reader(Segment **ret, Err *err) {
    int fd = weights_open(-1, path, err);
    if (fd < 0)
        return fd;
    int r = segment_open(fd, path, m, ret, err);
    close(fd);
    return r;
}

static void first_used_chunks_are_in_the_first_place(void **state) {
    make_spread();
    assert_true(exists(path) && exists(shared));
    Segment *s;
    SegmentShare share[N_PLACES];
    assert_int_equal(open_reader(&s, NULL), 0);
    assert_int_equal(segment_shares(s, share), 2);
    assert_int_equal(share[0].place, PLACE_CONFIGURED);
    assert_int_equal(share[0].bytes, (1 + FEW) * SEGMENT_PAGE);
    assert_int_equal(share[1].place, PLACE_SHARED);
    assert_int_equal(share[0].bytes + share[1].bytes, manifest_segment_bytes(m));
    for (size_t i = 0; i < manifest_n_chunks(m); i++) {
        const char *at = (const char *)segment_data(s) + manifest_chunk_segment_offset(m, i);
        char c, file[256];
        (void)snprintf(file, sizeof(file), "%s", i < FEW ? path : shared);
        int fd = open(file, O_RDONLY);
        off_t offset = (off_t)manifest_chunk_segment_offset(m, i);
        assert_int_equal(lseek(fd, offset, SEEK_DATA), offset); /* no hole */
        assert_int_equal(pread(fd, &c, 1, offset), 1);
        assert_int_equal(c, *at);
        close(fd);
        assert_int_equal(segment_wait(s, i, 0, NULL), 0);
        assert_int_equal(segment_verify(s, i, NULL), 0);
    }
    segment_close(s);
}

static void tensors_are_those_of_the_files(void **state) {
    make_spread();
    Err err = {0};
    Checkpoint *files, *c;
    int fd = weights_open(-1, path, &err);
    if (fd < 0 || checkpoint_open_segment(m, fd, path, &c, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(checkpoint_open_files(m, &files, NULL), 0);
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        View a, b;
        assert_int_equal(checkpoint_find(files, t->part, t->name, &a, NULL), 0);
        assert_int_equal(checkpoint_find(c, t->part, t->name, &b, NULL), 0);
        assert_int_equal(checkpoint_wait(c, b, 0, NULL), 0);
        assert_memory_equal(a.data, b.data, t->bytes);
    }
    /* The ranges are ascending, side by side, and all there is. */
    uint64_t sum = 0;
    const char *end = NULL;
    assert_true(checkpoint_n_ranges(c) >= 2);
    for (size_t i = 0; i < checkpoint_n_ranges(c); i++) {
        const void *data;
        size_t bytes;
        checkpoint_range(c, i, &data, &bytes);
        assert_true(!end || end == (const char *)data);
        end = (const char *)data + bytes;
        sum += bytes;
    }
    assert_int_equal(sum, manifest_segment_bytes(m) - SEGMENT_PAGE);
    checkpoint_free(c);
    checkpoint_free(files);
    close(fd);
}

/* Somebody holds the second file only: told, with the reason. */
static void further_file_in_use_is_told(void **state) {
    Segment *s;
    Err err = {0};
    unlimited();
    assert_int_equal(segment_evict(path, NULL), 0);
    limited();
    assert_int_equal(segment_create(path, m, &s, NULL), 0);
    segment_close(s);
    unlimited();
    _cleanup_free_ char *further = places_path(path, PLACE_SHARED);
    _cleanup_close_ int fd = open(further, O_RDWR);
    assert_int_equal(segment_file_lock(fd, NULL), 0);
    assert_int_equal(segment_continue(path, m, &s, &err), -EBUSY);
    assert_non_null(strstr(err_text(&err), "another process is filling it"));
    assert_int_equal(access(path, F_OK), 0);
}

static void next_writer_goes_on_in_both(void **state) {
    Segment *s, *other;
    unlimited();
    assert_int_equal(segment_evict(path, NULL), 0);
    limited();
    assert_int_equal(segment_create(path, m, &s, NULL), 0);
    size_t last = manifest_n_chunks(m) - 1;
    load(s, 0);
    load(s, last);
    segment_set(s, last - 1, SEGMENT_LOADING);
    assert_int_equal(segment_create(path, m, &other, NULL), -EBUSY);
    assert_int_equal(segment_evict(path, NULL), -EBUSY);
    segment_close(s);
    unlimited();
    assert_int_equal(segment_continue(path, m, &s, NULL), 0);
    SegmentShare share[N_PLACES];
    assert_int_equal(segment_shares(s, share), 2);
    assert_int_equal(segment_state(s, 0), SEGMENT_READY);
    assert_int_equal(segment_state(s, last), SEGMENT_READY);
    assert_int_equal(segment_verify(s, last, NULL), 0);
    assert_int_equal(segment_state(s, last - 1), SEGMENT_EMPTY);
    load(s, last - 1);
    segment_close(s);
}

/* A file missing, of another segment, of somebody else, writable for everybody, damaged. */
static void further_file_is_checked(void **state) {
    Segment *s;
    Err err = {0};
    char kept[160];
    (void)snprintf(kept, sizeof(kept), "%s.kept", shared);

    make_spread();
    assert_int_equal(rename(shared, kept), 0);
    assert_int_equal(open_reader(&s, &err), -ESTALE);
    assert_non_null(strstr(err_text(&err), "/shared/files-"));
    make_spread(); /* the writer makes it anew */
    assert_int_equal(unlink(shared), 0);
    assert_int_equal(rename(kept, shared), 0); /* same manifest, another filling */
    err_clear(&err);
    assert_int_equal(open_reader(&s, &err), -ESTALE);
    assert_non_null(strstr(err_text(&err), "another segment"));

    make_spread();
    (void)chmod(shared, 0666);
    assert_int_equal(open_reader(&s, NULL), -EPERM);
    (void)chmod(shared, 0640);
    if (geteuid() == 0) {
        (void)chown(shared, 12345, 0);
        assert_int_equal(open_reader(&s, NULL), -EPERM);
        /* Who owns the configured directory may own what is in it, to root. */
        char *dir = strdup(path);
        *strrchr(dir, '/') = '\0';
        (void)chown(dir, 12345, 0);
        assert_int_equal(open_reader(&s, NULL), 0);
        segment_close(s);
        (void)chmod(dir, 0777);
        assert_int_equal(open_reader(&s, NULL), -EPERM);
        (void)chmod(dir, 0755);
        (void)chown(dir, 0, 0);
        free(dir);
        (void)chown(shared, 0, 0);
    }
    assert_int_equal(truncate(shared, (off_t)(4 * SEGMENT_PAGE)), 0);
    assert_int_equal(open_reader(&s, NULL), -EBADMSG);
    make_spread();
    int fd = open(shared, O_RDONLY);
    assert_int_equal(segment_open(fd, path, m, &s, NULL), -EBADMSG); /* it is not the first */
    assert_int_equal(weights_open(fd, path, NULL), -EBADMSG);
    close(fd);
}

static void lost_first_file_leaves_no_segment(void **state) {
    Segment *s;
    make_spread();
    assert_int_equal(unlink(path), 0);
    assert_int_equal(weights_open(-1, path, NULL), -ENOENT);
    assert_int_equal(segment_continue(path, m, &s, NULL), -ENOENT);
    assert_false(exists(shared));
    make_spread();
    assert_int_equal(segment_evict(path, NULL), 0);
    assert_false(exists(path) || exists(shared));
    make_spread();
    assert_int_equal(unlink(path), 0);
    assert_int_equal(segment_evict(path, NULL), 0);
    assert_false(exists(shared));
}

/* 1,000 bits: in headers and extents, which refuse the segment, and in both files' bytes. */
static void flipped_bits_are_noticed(void **state) {
    make_spread();
    uint64_t seed = 7, bytes = manifest_segment_bytes(m);
    int first = open(path, O_RDWR), further = open(shared, O_RDWR);
    Segment *s;
    assert_int_equal(open_reader(&s, NULL), 0);
    size_t n_extents = segment_n_extents(s);
    segment_close(s);
    for (int i = 0; i < 1000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t at = seed >> 20;
        int fd = i % 2 ? first : further;
        bool header = i % 10 < 3;
        if (i % 10 == 1)
            at = SEGMENT_EXTENTS_AT + at % (n_extents * sizeof(SegmentExtent));
        else if (header)
            at %= sizeof(SegmentHeader);
        else
            at = SEGMENT_PAGE + at % (bytes - SEGMENT_PAGE);
        size_t chunk = header ? 0 : manifest_chunk_at(m, at);
        if (!header)
            fd = chunk < FEW ? first : further;
        uint8_t byte, flipped;
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        flipped = byte ^ (uint8_t)(1 << (seed >> 60 & 7));
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
        int r = open_reader(&s, NULL);
        if (header) {
            assert_true(r < 0);
        } else {
            assert_int_equal(r, 0);
            assert_int_equal(segment_verify(s, chunk, NULL), -EBADMSG);
            segment_close(s);
        }
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    close(first);
    close(further);
    assert_int_equal(open_reader(&s, NULL), 0);
    segment_close(s);
}

static void too_little_everywhere_leaves_nothing(void **state) {
    Segment *s;
    Err err = {0};
    unlimited();
    assert_int_equal(segment_evict(path, NULL), 0);
    limited();
    fault.refill = 4096 + 2 * SEGMENT_PAGE;
    assert_int_equal(segment_create(path, m, &s, &err), -ENOSPC);
    assert_non_null(strstr(err_text(&err), "cannot get memory for"));
    assert_false(exists(path) || exists(shared));

    /* No chunk at all from the first place: it is not used for its header alone. */
    limited();
    fault.budget = 2 * SEGMENT_PAGE - 1;
    assert_int_equal(segment_create(path, m, &s, NULL), 0);
    SegmentShare share[N_PLACES];
    assert_int_equal(segment_shares(s, share), 1);
    assert_int_equal(share[0].place, PLACE_SHARED);
    assert_false(exists(path));
    segment_close(s);
}

/* Killed or failed between the names of the files: nothing that a reader would take, nothing that
 * stops the next writer. */
static void naming_is_all_or_nothing(void **state) {
    Segment *s;
    for (int i = 1; i <= 2; i++) {
        unlimited();
        assert_int_equal(segment_evict(path, NULL), 0);
        limited();
        fault.fail_link_at = i;
        assert_int_equal(segment_create(path, m, &s, NULL), -EIO);
        assert_false(exists(path) || exists(shared));

        pid_t child = fork();
        if (child == 0) {
            limited();
            fault.kill_link_at = i;
            (void)segment_create(path, m, &s, NULL);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        unlimited();
        assert_int_equal(weights_open(-1, path, NULL), -ENOENT);
        limited();
        assert_int_equal(segment_create(path, m, &s, NULL), 0);
        SegmentShare share[N_PLACES];
        assert_int_equal(segment_shares(s, share), 2);
        segment_close(s);
    }
}

static void places_are_beside_the_configured_path(void **state) {
    static const struct {
        const char *path, *shared;
    } cases[] = {{"/run/preheat/weights/wan", "/run/preheat/shared/wan"},
            {"/weights/wan", "/shared/wan"}, {"/wan", "//../shared/wan"},
            {"weights/wan", "weights/../shared/wan"}, {"wan", "./../shared/wan"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *p = places_path(cases[i].path, PLACE_SHARED);
        assert_string_equal(p, cases[i].shared);
        free(p);
        p = places_path(cases[i].path, PLACE_CONFIGURED);
        assert_string_equal(p, cases[i].path);
        free(p);
        p = places_path(cases[i].path, PLACE_PUBLIC);
        assert_string_equal(p, "/dev/shm/preheat-wan");
        free(p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(places_are_beside_the_configured_path),
            cmocka_unit_test(first_used_chunks_are_in_the_first_place),
            cmocka_unit_test(tensors_are_those_of_the_files),
            cmocka_unit_test(further_file_in_use_is_told),
            cmocka_unit_test(next_writer_goes_on_in_both),
            cmocka_unit_test(further_file_is_checked),
            cmocka_unit_test(lost_first_file_leaves_no_segment),
            cmocka_unit_test(flipped_bits_are_noticed),
            cmocka_unit_test(too_little_everywhere_leaves_nothing),
            cmocka_unit_test(naming_is_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
