/* Windows of a segment in two files: what a copy covers is locked, and no lock crosses from one
 * file to the other. */
#include "test.h"

#include "../store/model.h"
#include "backend/interface.h"
#include "pipeline/pinner.h"
#include "store/segment.h"
#include "store/weights.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

static uint64_t budget = UINT64_MAX; /* that populating may take before it fails once */

int madvise(void *p, size_t n, int advice) {
    static int (*real)(void *, size_t, int);
    if (!real)
        real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
    if (advice != MADV_POPULATE_WRITE)
        return real(p, n, advice);
    if (n > budget) {
        budget = UINT64_MAX;
        errno = ENOMEM;
        return -1;
    }
    budget -= n;
    return real(p, n, advice);
}

enum { MAX_PINS = 64 };

/* A backend that remembers what it locked. */
typedef struct Fake {
    Backend base;
    size_t n;
    struct {
        const char *data;
        size_t bytes;
    } pin[MAX_PINS];
    int refuse_at; /* the so many-th is refused */
} Fake;

static int fake_pin(Backend *b, const void *data, size_t bytes, Err *err) {
    Fake *f = (Fake *)b;
    assert_true(f->n < MAX_PINS);
    if (f->refuse_at && --f->refuse_at == 0)
        return -ENOMEM;
    f->pin[f->n].data = data;
    f->pin[f->n++].bytes = bytes;
    return 0;
}

static void fake_unpin(Backend *b, const void *data, size_t bytes) {
    Fake *f = (Fake *)b;
    for (size_t i = 0; i < f->n; i++) {
        if (f->pin[i].data != (const char *)data || f->pin[i].bytes != bytes)
            continue;
        f->pin[i] = f->pin[--f->n];
        return;
    }
    fail_msg("unlocked %zu bytes that were not locked so", bytes);
}

static const BackendOps ops = {.pin = fake_pin, .unpin = fake_unpin};

static Model model;
static Manifest *m;
static char dir[] = "/dev/shm/preheat-test-XXXXXX", weights[64], shared[64], path[96];

static int setup(void **state) {
    assert_non_null(mkdtemp(dir));
    (void)snprintf(weights, sizeof(weights), "%s/weights", dir);
    (void)snprintf(shared, sizeof(shared), "%s/shared", dir);
    (void)snprintf(path, sizeof(path), "%s/pinner-%d", weights, getpid());
    assert_true(mkdir(weights, 0755) == 0 && mkdir(shared, 0755) == 0);
    model_make_whole(&model, 700);
    return manifest_scan(model.dir, SEGMENT_PAGE, &m, NULL);
}

static int teardown(void **state) {
    (void)segment_evict(path, NULL);
    manifest_free(m);
    model_done(&model);
    (void)rmdir(weights);
    (void)rmdir(shared);
    return rmdir(dir);
}

static Checkpoint *open_spread(uint64_t n_pages) {
    Segment *s;
    Checkpoint *c;
    assert_int_equal(segment_evict(path, NULL), 0);
    budget = n_pages * SEGMENT_PAGE;
    assert_int_equal(segment_create(path, m, &s, NULL), 0);
    segment_close(s);
    int fd = weights_open(-1, path, NULL);
    assert_int_equal(checkpoint_open_segment(m, fd, path, &c, NULL), 0);
    close(fd);
    assert_true(checkpoint_n_ranges(c) >= 2);
    return c;
}

static bool locked(const Fake *f, const char *at) {
    for (size_t i = 0; i < f->n; i++)
        if (f->pin[i].data <= at && at < f->pin[i].data + f->pin[i].bytes)
            return true;
    return false;
}

static bool in_one_range(const Checkpoint *c, const char *data, size_t n) {
    for (size_t i = 0; i < checkpoint_n_ranges(c); i++) {
        const void *begin;
        size_t bytes;
        checkpoint_range(c, i, &begin, &bytes);
        if (data >= (const char *)begin && data + n <= (const char *)begin + bytes)
            return true;
    }
    return false;
}

/* Returns how many tensors lie in both files. */
static size_t cover_all(uint64_t n_pages) {
    Checkpoint *c = open_spread(n_pages);
    Fake f = {.base = {.ops = &ops}};
    Pinner *p;
    assert_int_equal(pinner_new(&f.base, c, &p, NULL), 0);
    assert_non_null(p);
    size_t n_across = 0;
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        View v;
        assert_int_equal(checkpoint_find(c, t->part, t->name, &v, NULL), 0);
        pinner_cover(p, v.data, t->bytes);
        n_across += !in_one_range(c, v.data, t->bytes);
        for (uint64_t k = 0; k < t->bytes; k += 4096)
            assert_true(locked(&f, (const char *)v.data + k));
        assert_true(locked(&f, (const char *)v.data + t->bytes - 1));
    }
    for (size_t i = 0; i < f.n; i++)
        assert_true(in_one_range(c, f.pin[i].data, f.pin[i].bytes));
    pinner_free(p);
    assert_int_equal(f.n, 0);
    checkpoint_free(c);
    return n_across;
}

static void windows_stay_in_their_file(void **state) {
    size_t n_across = 0;
    for (uint64_t n = 2; n < 12; n++)
        n_across += cover_all(n);
    assert_true(n_across > 0);
}

static void refused_window_is_not_unlocked(void **state) {
    Checkpoint *c = open_spread(4);
    Fake f = {.base = {.ops = &ops}, .refuse_at = 1};
    Pinner *p;
    assert_int_equal(pinner_new(&f.base, c, &p, NULL), 0);
    const void *data;
    size_t bytes;
    checkpoint_range(c, 1, &data, &bytes);
    pinner_cover(p, data, bytes);
    pinner_cover(p, data, bytes);
    assert_int_equal(f.n, 0); /* refused once is refused */
    pinner_cover(p, data, 0);
    pinner_free(p);
    checkpoint_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(windows_stay_in_their_file),
            cmocka_unit_test(refused_window_is_not_unlocked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
