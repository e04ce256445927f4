#include "test.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "model.h"
#include "store/checkpoint.h"
#include "store/segment-format.h"
#include "store/segment.h"
#include "store/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

static const char path[] = "/dev/shm/preheat-test-segment";

typedef struct Fixture {
    Model model;
    Manifest *m;
} Fixture;

static int setup(void **state) {
    static Fixture f;
    model_make_whole(&f.model, 700);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 2};
    Err err = {0};
    if (manifest_build(f.model.dir, &o, &f.m, &err) < 0)
        fail_msg("%s", err_text(&err));
    (void)unlink(path);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    Fixture *f = *state;
    manifest_free(f->m);
    model_done(&f->model);
    (void)unlink(path);
    return 0;
}

static void load(const Manifest *m, Segment *s, size_t chunk) {
    const ManifestChunk *c = manifest_chunk(m, chunk);
    char file[256];
    (void)snprintf(file, sizeof(file), "%s/%s", manifest_root(m), manifest_file(m, c->file)->path);
    int fd = open(file, O_RDONLY);
    uint64_t bytes, room;
    void *to = segment_chunk(s, chunk, &bytes, &room);
    segment_set(s, chunk, SEGMENT_LOADING);
    assert_int_equal(pread(fd, to, c->bytes, (off_t)c->offset), c->bytes);
    assert_int_equal(segment_verify(s, chunk, NULL), 0);
    segment_set(s, chunk, SEGMENT_READY);
    close(fd);
}

static void load_all(const Manifest *m) {
    Segment *s;
    Err err = {0};
    if (segment_create(path, m, &s, &err) < 0)
        fail_msg("%s", err_text(&err));
    for (size_t i = 0; i < manifest_n_chunks(m); i++)
        if (segment_state(s, i) != SEGMENT_READY)
            load(m, s, i);
    segment_close(s);
}

static void filled_segment_equals_files(void **state) {
    const Fixture *f = *state;
    load_all(f->m);
    Err err = {0};
    Checkpoint *files, *c;
    int fd = weights_open(-1, path, &err);
    if (fd < 0 || checkpoint_open_segment(f->m, fd, path, &c, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(checkpoint_tier(c), CHECKPOINT_SEGMENT);
    assert_int_equal(checkpoint_open_files(f->m, &files, NULL), 0);
    for (size_t i = 0; i < manifest_n_tensors(f->m); i++) {
        const ManifestTensor *t = manifest_tensor(f->m, i);
        View a, b;
        assert_int_equal(checkpoint_find(files, t->part, t->name, &a, NULL), 0);
        assert_int_equal(checkpoint_find(c, t->part, t->name, &b, NULL), 0);
        assert_int_equal(checkpoint_wait(c, b, 0, NULL), 0);
        checkpoint_will_need(files, a);
        checkpoint_will_need(c, b);
        assert_memory_equal(a.data, b.data, t->bytes);
    }
    checkpoint_free(c);
    checkpoint_free(files);
    close(fd);
}

static void one_writer_at_a_time(void **state) {
    const Fixture *f = *state;
    Segment *s, *other;
    Err err = {0};
    assert_int_equal(segment_create(path, f->m, &s, NULL), 0);
    assert_int_equal(segment_create(path, f->m, &other, &err), -EBUSY);
    assert_int_equal(segment_evict(path, NULL), -EBUSY);
    segment_close(s);
    assert_int_equal(segment_create(path, f->m, &s, NULL), 0);
    segment_close(s);
    assert_int_equal(segment_evict(path, NULL), 0);
    assert_int_equal(segment_evict(path, NULL), 0);
}

static void unfinished_chunks_start_again(void **state) {
    const Fixture *f = *state;
    Segment *s;
    assert_int_equal(segment_create(path, f->m, &s, NULL), 0);
    load(f->m, s, 0);
    segment_set(s, 1, SEGMENT_LOADING);
    segment_set(s, 2, SEGMENT_BAD);
    segment_close(s);
    assert_int_equal(segment_create(path, f->m, &s, NULL), 0);
    assert_int_equal(segment_state(s, 0), SEGMENT_READY);
    assert_int_equal(segment_state(s, 1), SEGMENT_EMPTY);
    assert_int_equal(segment_state(s, 2), SEGMENT_EMPTY);
    segment_close(s);
}

static void other_manifest_replaces(void **state) {
    const Fixture *f = *state;
    load_all(f->m);
    int fd = weights_open(-1, path, NULL);
    Manifest *other;
    Segment *s;
    Err err = {0};
    assert_int_equal(manifest_scan(f->model.dir, 2 * SEGMENT_PAGE, &other, NULL), 0);
    assert_int_equal(segment_open(fd, path, other, &s, &err), -ESTALE);
    assert_int_equal(segment_create(path, other, &s, NULL), 0);
    for (size_t i = 0; i < manifest_n_chunks(other); i++)
        assert_int_equal(segment_state(s, i), SEGMENT_EMPTY);
    segment_close(s);
    /* Who had it open keeps what it was. */
    assert_int_equal(segment_open(fd, path, f->m, &s, NULL), 0);
    assert_int_equal(segment_wait(s, 0, 0, NULL), 0);
    segment_close(s);
    close(fd);
    manifest_free(other);
}

typedef struct Later {
    const Manifest *m;
    Segment *s;
    SegmentState state;
} Later;

static void *cancel_later(void *context) {
    Later *l = context;
    struct timespec t = {.tv_nsec = 30 * 1000 * 1000};
    (void)nanosleep(&t, NULL);
    segment_cancel(l->s);
    return NULL;
}

static void *publish_later(void *context) {
    Later *l = context;
    struct timespec t = {.tv_nsec = 30 * 1000 * 1000};
    (void)nanosleep(&t, NULL);
    if (l->state == SEGMENT_READY)
        load(l->m, l->s, 0);
    else
        segment_set(l->s, 0, l->state);
    return NULL;
}

static void waiting_ends_with_the_state(void **state) {
    const Fixture *f = *state;
    static const struct {
        SegmentState state;
        int result;
    } cases[] = {{SEGMENT_READY, 0}, {SEGMENT_BAD, -EBADMSG}};
    for (size_t i = 0; i < 2; i++) {
        (void)unlink(path);
        Segment *w, *r;
        assert_int_equal(segment_create(path, f->m, &w, NULL), 0);
        int fd = weights_open(-1, path, NULL);
        assert_int_equal(segment_open(fd, path, f->m, &r, NULL), 0);
        assert_int_equal(segment_wait(r, 0, 20 * USEC_PER_MSEC, NULL), SEGMENT_TIMEOUT);
        Later l = {f->m, w, cases[i].state};
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, publish_later, &l), 0);
        uint64_t start = clock_usec();
        assert_int_equal(segment_wait(r, 0, 10 * USEC_PER_SEC, NULL), cases[i].result);
        assert_true(clock_usec() - start < 8 * USEC_PER_SEC);
        (void)pthread_join(t, NULL);
        segment_close(r);
        segment_close(w);
        close(fd);
    }
}

static void waiting_can_be_cancelled(void **state) {
    const Fixture *f = *state;
    (void)unlink(path);
    Segment *w, *r;
    assert_int_equal(segment_create(path, f->m, &w, NULL), 0);
    int fd = weights_open(-1, path, NULL);
    assert_int_equal(segment_open(fd, path, f->m, &r, NULL), 0);
    Later l = {.s = r};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, cancel_later, &l), 0);
    assert_int_equal(segment_wait(r, 0, USEC_INFINITY, NULL), -ECANCELED);
    (void)pthread_join(t, NULL);
    assert_int_equal(segment_wait(r, 0, USEC_INFINITY, NULL), -ECANCELED);
    segment_close(r);
    segment_close(w);
    close(fd);
}

static void dead_writer_is_noticed(void **state) {
    const Fixture *f = *state;
    (void)unlink(path);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        Segment *s;
        if (segment_create(path, f->m, &s, NULL) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    int fd = weights_open(-1, path, NULL);
    Segment *r;
    assert_int_equal(segment_open(fd, path, f->m, &r, NULL), 0);
    assert_true(segment_has_writer(r));
    assert_int_equal(segment_wait(r, 0, 10 * USEC_PER_MSEC, NULL), SEGMENT_TIMEOUT);
    assert_int_equal(segment_check_supply(r, NULL), 0);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    assert_false(segment_has_writer(r));
    Checkpoint *checkpoint;
    assert_int_equal(checkpoint_open_segment(f->m, fd, path, &checkpoint, NULL), 0);
    assert_int_equal(checkpoint_check_supply(checkpoint, NULL), -EPIPE);
    assert_null(checkpoint_free(checkpoint));
    uint64_t began = clock_usec();
    assert_int_equal(segment_wait(r, 0, 10 * USEC_PER_SEC, NULL), -ENOLINK);
    assert_true(clock_usec() - began >= SEGMENT_ALONE_USEC);
    (void)unlink(path);
    began = clock_usec();
    assert_int_equal(segment_wait(r, 0, 10 * USEC_PER_SEC, NULL), -ENOLINK);
    assert_true(clock_usec() - began < SEGMENT_ALONE_USEC);
    segment_close(r);
    close(fd);
    close(ready[0]);
    close(ready[1]);
}

/* Each of 1,000 flipped bits is found: in the header (the segment is refused), in a state word (the
 * chunk is not ready any more) or in the bytes (verification fails). */
static void flipped_bits_are_noticed(void **state) {
    const Fixture *f = *state;
    load_all(f->m);
    uint64_t bytes = manifest_segment_bytes(f->m), seed = 1;
    size_t n_chunks = manifest_n_chunks(f->m);
    int fd = open(path, O_RDWR);
    for (int i = 0; i < 1000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t at = seed >> 20;
        if (i % 10 == 0)
            at %= sizeof(SegmentHeader);
        else if (i % 10 == 1)
            at = SEGMENT_STATES_AT + at % (n_chunks * 4);
        else
            at = SEGMENT_PAGE + at % (bytes - SEGMENT_PAGE);
        uint8_t byte, flipped;
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        flipped = byte ^ (uint8_t)(1 << (seed >> 60 & 7));
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);

        Segment *s;
        int r = segment_open(fd, path, f->m, &s, NULL);
        if (i % 10 == 0) {
            assert_true(r < 0);
        } else {
            assert_int_equal(r, 0);
            size_t chunk = i % 10 == 1 ? (at - SEGMENT_STATES_AT) / 4 : manifest_chunk_at(f->m, at);
            if (i % 10 == 1)
                assert_int_equal(segment_wait(s, chunk, 0, NULL), -EBADMSG);
            else
                assert_int_equal(segment_verify(s, chunk, NULL), -EBADMSG);
            segment_close(s);
        }
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    close(fd);
}

static void foreign_files_are_refused(void **state) {
    const Fixture *f = *state;
    Segment *s;
    Err err = {0};
    char link[] = "/dev/shm/preheat-test-link";
    assert_int_equal(weights_open(-1, "/dev/shm/preheat-test-none", &err), -ENOENT);
    load_all(f->m);
    (void)unlink(link);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(weights_open(-1, link, NULL), -ELOOP);
    (void)unlink(link);
    (void)chmod(path, 0666);
    assert_int_equal(weights_open(-1, path, NULL), -EPERM);
    (void)chmod(path, 0640);
    if (geteuid() == 0) {
        (void)chown(path, 12345, 0);
        assert_int_equal(weights_open(-1, path, NULL), -EPERM);
        (void)chown(path, 0, 0);
    }
    assert_int_equal(truncate(path, (off_t)SEGMENT_PAGE), 0);
    assert_int_equal(weights_open(-1, path, NULL), -EBADMSG);
    int fd = open(path, O_RDONLY);
    assert_int_equal(segment_open(fd, path, f->m, &s, NULL), -EBADMSG);
    close(fd);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(weights_open(-1, path, NULL), -EBADMSG);
    /* The writer makes it anew. */
    load_all(f->m);
    fd = weights_open(-1, path, NULL);
    assert_true(fd >= 0);
    assert_int_equal(weights_open(fd, NULL, NULL), fd);
    close(fd);
    fd = open(f->model.dir, O_RDONLY);
    assert_int_equal(weights_open(fd, NULL, NULL), -EINVAL);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(filled_segment_equals_files),
            cmocka_unit_test(one_writer_at_a_time),
            cmocka_unit_test(unfinished_chunks_start_again),
            cmocka_unit_test(other_manifest_replaces),
            cmocka_unit_test(waiting_ends_with_the_state),
            cmocka_unit_test(waiting_can_be_cancelled),
            cmocka_unit_test(dead_writer_is_noticed),
            cmocka_unit_test(flipped_bits_are_noticed),
            cmocka_unit_test(foreign_files_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
