#include "warmup/verifier.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"

#include <pthread.h>
#include <string.h>

typedef struct Order {
    int slot;
    size_t chunk;
} Order;

/* The lock guards the two stacks and `stopping`; both have room for VERIFIER_MAX, which bounds what
 * is added and not yet taken. */
struct Verifier {
    Segment *s;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    Order order[VERIFIER_MAX];
    Verdict verdict[VERIFIER_MAX];
    int n_orders, n_verdicts;
    bool stopping;
    int n_started;
    pthread_t thread[];
};

/* The page behind the file's last byte may hold what an earlier reading left there; readers are
 * promised zeros. */
static void clear_padding(Segment *s, size_t chunk) {
    uint64_t bytes, room;
    char *data = segment_chunk(s, chunk, &bytes, &room);
    memset(data + bytes, 0, room - bytes);
}

static Order take_order(Verifier *v) {
    Order o = v->order[0]; /* the oldest: chunks are added by first use */
    memmove(v->order, v->order + 1, (size_t)--v->n_orders * sizeof(o));
    return o;
}

static void *thread_main(void *context) {
    Verifier *v = context;
    (void)pthread_mutex_lock(&v->lock);
    for (;;) {
        while (v->n_orders == 0 && !v->stopping)
            (void)pthread_cond_wait(&v->work, &v->lock);
        if (v->n_orders == 0)
            break;
        Order o = take_order(v);
        (void)pthread_mutex_unlock(&v->lock);
        Verdict verdict = {.slot = o.slot};
        clear_padding(v->s, o.chunk);
        verdict.result = segment_verify(v->s, o.chunk, &verdict.err);
        (void)pthread_mutex_lock(&v->lock);
        v->verdict[v->n_verdicts++] = verdict;
        (void)pthread_cond_signal(&v->done);
    }
    (void)pthread_mutex_unlock(&v->lock);
    return NULL;
}

int verifier_new(Segment *s, int n_threads, Verifier **ret, Err *err) {
    Verifier *v = calloc(1, sizeof(*v) + (size_t)n_threads * sizeof(v->thread[0]));
    if (!v)
        return err_set(err, -ENOMEM, "no memory for verifying threads");
    v->s = s;
    pthread_condattr_t monotonic; /* clock_deadline() is on this clock */
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&v->lock, NULL);
    (void)pthread_cond_init(&v->work, NULL);
    (void)pthread_cond_init(&v->done, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    for (int i = 0; i < n_threads; i++) {
        int rc = pthread_create(&v->thread[i], NULL, thread_main, v);
        if (rc != 0 && i == 0) {
            verifier_free(v);
            return err_set(err, -rc, "cannot start a verifying thread: %s", strerror(rc));
        }
        if (rc != 0)
            break; /* fewer are slower, not wrong */
        v->n_started++;
    }
    *ret = v;
    return 0;
}

Verifier *verifier_free(Verifier *v) {
    if (!v)
        return NULL;
    (void)pthread_mutex_lock(&v->lock);
    v->stopping = true;
    (void)pthread_cond_broadcast(&v->work);
    (void)pthread_mutex_unlock(&v->lock);
    for (int i = 0; i < v->n_started; i++)
        (void)pthread_join(v->thread[i], NULL);
    (void)pthread_cond_destroy(&v->work);
    (void)pthread_cond_destroy(&v->done);
    (void)pthread_mutex_destroy(&v->lock);
    free(v);
    return NULL;
}

void verifier_add(Verifier *v, int slot, size_t chunk) {
    (void)pthread_mutex_lock(&v->lock);
    assert(v->n_orders < VERIFIER_MAX);
    v->order[v->n_orders++] = (Order){slot, chunk};
    (void)pthread_cond_signal(&v->work);
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
    if (got)
        *ret = v->verdict[--v->n_verdicts];
    (void)pthread_mutex_unlock(&v->lock);
    return got;
}
