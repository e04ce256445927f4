#include "warmup/verifier.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"

#include <pthread.h>
#include <string.h>

/* A chunk on its way: fed by the owner, followed by one thread. */
typedef struct Course {
    size_t chunk;
    uint64_t fed;
    bool busy, cancelled;
} Course;

typedef struct Follower {
    Verifier *v;
    DigestState *digest;
    pthread_t thread;
} Follower;

/* The lock guards the courses, the two lists and `stopping`; both lists have room for every slot
 * once. `work` is for new courses and for news of old ones. */
struct Verifier {
    Segment *s;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    Course course[VERIFIER_MAX];
    int queue[VERIFIER_MAX], n_queued; /* slots that no thread follows yet, oldest first */
    Verdict verdict[VERIFIER_MAX];
    int n_verdicts;
    bool stopping;
    int n_threads, n_started;
    Follower follower[];
};

/* The page behind the file's last byte may hold what an earlier reading left there; readers are
 * promised zeros. */
static void clear_padding(Segment *s, size_t chunk) {
    uint64_t bytes, room;
    char *data = segment_chunk(s, chunk, &bytes, &room);
    memset(data + bytes, 0, room - bytes);
}

static int take_slot(Verifier *v) {
    int slot = v->queue[0];
    memmove(v->queue, v->queue + 1, (size_t)--v->n_queued * sizeof(slot));
    return slot;
}

/* Adds to the digest what is fed, as it is fed; called and left with the lock held. False when
 * cancelled. */
static bool follow(Verifier *v, const Course *c, DigestState *digest) {
    uint64_t bytes, room, done = 0;
    const char *data = segment_chunk(v->s, c->chunk, &bytes, &room);
    while (done < bytes && !c->cancelled) {
        if (c->fed == done) {
            (void)pthread_cond_wait(&v->work, &v->lock);
            continue;
        }
        uint64_t fed = c->fed;
        (void)pthread_mutex_unlock(&v->lock);
        digest_state_add(digest, data + done, fed - done);
        (void)pthread_mutex_lock(&v->lock);
        done = fed;
    }
    return done == bytes && !c->cancelled;
}

static void *thread_main(void *context) {
    const Follower *own = context;
    Verifier *v = own->v;
    (void)pthread_mutex_lock(&v->lock);
    for (;;) {
        while (v->n_queued == 0 && !v->stopping)
            (void)pthread_cond_wait(&v->work, &v->lock);
        if (v->n_queued == 0)
            break;
        Verdict verdict = {.slot = take_slot(v), .result = -ECANCELED};
        Course *c = &v->course[verdict.slot];
        digest_state_reset(own->digest);
        if (follow(v, c, own->digest)) {
            (void)pthread_mutex_unlock(&v->lock);
            Digest found = digest_state_get(own->digest);
            clear_padding(v->s, c->chunk);
            verdict.result = segment_compare(v->s, c->chunk, &found, &verdict.err);
            (void)pthread_mutex_lock(&v->lock);
        }
        v->verdict[v->n_verdicts++] = verdict;
        (void)pthread_cond_signal(&v->done);
    }
    (void)pthread_mutex_unlock(&v->lock);
    return NULL;
}

static void init_locks(Verifier *v) {
    pthread_condattr_t monotonic; /* clock_deadline() is on this clock */
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&v->lock, NULL);
    (void)pthread_cond_init(&v->work, NULL);
    (void)pthread_cond_init(&v->done, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

static int start_threads(Verifier *v, Err *err) {
    for (int i = 0; i < v->n_threads; i++) {
        Follower *f = &v->follower[i];
        *f = (Follower){.v = v, .digest = digest_state_new()};
        if (!f->digest)
            return err_set(err, -ENOMEM, "no memory to compute digests");
        int rc = pthread_create(&f->thread, NULL, thread_main, f);
        if (rc != 0 && i == 0)
            return err_set(err, -rc, "cannot start a verifying thread: %s", strerror(rc));
        if (rc != 0)
            break; /* fewer are slower, not wrong */
        v->n_started++;
    }
    return 0;
}

int verifier_new(Segment *s, int n_threads, Verifier **ret, Err *err) {
    Verifier *v = calloc(1, sizeof(*v) + (size_t)n_threads * sizeof(v->follower[0]));
    if (!v)
        return err_set(err, -ENOMEM, "no memory for verifying threads");
    v->s = s;
    v->n_threads = n_threads;
    init_locks(v);
    int r = start_threads(v, err);
    if (r < 0)
        verifier_free(v);
    else
        *ret = v;
    return r;
}

Verifier *verifier_free(Verifier *v) {
    if (!v)
        return NULL;
    (void)pthread_mutex_lock(&v->lock);
    v->stopping = true;
    for (int i = 0; i < VERIFIER_MAX; i++)
        assert(!v->course[i].busy);
    (void)pthread_cond_broadcast(&v->work);
    (void)pthread_mutex_unlock(&v->lock);
    for (int i = 0; i < v->n_started; i++)
        (void)pthread_join(v->follower[i].thread, NULL);
    for (int i = 0; i < v->n_threads; i++)
        digest_state_free(v->follower[i].digest);
    (void)pthread_cond_destroy(&v->work);
    (void)pthread_cond_destroy(&v->done);
    (void)pthread_mutex_destroy(&v->lock);
    free(v);
    return NULL;
}

void verifier_begin(Verifier *v, int slot, size_t chunk) {
    (void)pthread_mutex_lock(&v->lock);
    assert(slot >= 0 && slot < VERIFIER_MAX && !v->course[slot].busy);
    v->course[slot] = (Course){.chunk = chunk, .busy = true};
    v->queue[v->n_queued++] = slot;
    (void)pthread_cond_broadcast(&v->work);
    (void)pthread_mutex_unlock(&v->lock);
}

void verifier_feed(Verifier *v, int slot, uint64_t bytes) {
    (void)pthread_mutex_lock(&v->lock);
    Course *c = &v->course[slot];
    assert(c->busy && bytes >= c->fed);
    if (bytes > c->fed) {
        c->fed = bytes;
        (void)pthread_cond_broadcast(&v->work);
    }
    (void)pthread_mutex_unlock(&v->lock);
}

void verifier_cancel(Verifier *v, int slot) {
    (void)pthread_mutex_lock(&v->lock);
    assert(v->course[slot].busy);
    v->course[slot].cancelled = true;
    (void)pthread_cond_broadcast(&v->work);
    (void)pthread_mutex_unlock(&v->lock);
}

bool verifier_take(Verifier *v, uint64_t timeout_usec, Verdict *ret) {
    uint64_t deadline = clock_deadline(timeout_usec);
    struct timespec at = {.tv_sec = (time_t)(deadline / USEC_PER_SEC),
            .tv_nsec = (long)(deadline % USEC_PER_SEC * 1000)};
    int rc = 0;
    (void)pthread_mutex_lock(&v->lock);
    while (v->n_verdicts == 0 && timeout_usec > 0 && rc == 0)
        rc = pthread_cond_timedwait(&v->done, &v->lock, &at);
    bool got = v->n_verdicts > 0;
    if (got) {
        *ret = v->verdict[--v->n_verdicts];
        v->course[ret->slot].busy = false;
    }
    (void)pthread_mutex_unlock(&v->lock);
    return got;
}
