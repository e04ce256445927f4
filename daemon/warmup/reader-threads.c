#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "warmup/reader-impl.h"

#include <pthread.h>
#include <string.h>

/* More threads than this only queue up in the block layer. */
enum { MAX_THREADS = 16 };

typedef struct PieceList {
    ReadPiece *first, **end;
} PieceList;

/* Owner: the thread that opened it; the lock guards the lists and `stopping`. */
typedef struct Threads {
    Reader base;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    PieceList todo, finished;
    bool stopping;
    int n_started;
    pthread_t thread[MAX_THREADS];
} Threads;

static void list_init(PieceList *l) {
    l->first = NULL;
    l->end = &l->first;
}

static void list_add(PieceList *l, ReadPiece *p) {
    p->next = NULL;
    *l->end = p;
    l->end = &p->next;
}

static ReadPiece *list_take(PieceList *l) {
    ReadPiece *p = l->first;
    if (p) {
        l->first = p->next;
        if (!l->first)
            l->end = &l->first;
    }
    return p;
}

static void *thread_main(void *context) {
    Threads *t = context;
    (void)pthread_mutex_lock(&t->lock);
    for (;;) {
        ReadPiece *p = list_take(&t->todo);
        if (!p && t->stopping)
            break;
        if (!p) {
            (void)pthread_cond_wait(&t->work, &t->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&t->lock);
        ssize_t n = pread(p->fd, p->to, p->bytes, (off_t)p->offset);
        p->result = n < 0 ? -errno : n;
        (void)pthread_mutex_lock(&t->lock);
        list_add(&t->finished, p);
        (void)pthread_cond_signal(&t->done);
    }
    (void)pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void threads_close(Reader *r) {
    Threads *t = (Threads *)r;
    (void)pthread_mutex_lock(&t->lock);
    t->stopping = true;
    (void)pthread_cond_broadcast(&t->work);
    (void)pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->n_started; i++)
        (void)pthread_join(t->thread[i], NULL);
    (void)pthread_cond_destroy(&t->work);
    (void)pthread_cond_destroy(&t->done);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

static void threads_region(Reader *r, int region, void *data, size_t bytes) {
    /* nothing to announce: pread takes any address */
}

static void threads_submit(Reader *r, ReadPiece *p) {
    Threads *t = (Threads *)r;
    (void)pthread_mutex_lock(&t->lock);
    list_add(&t->todo, p);
    (void)pthread_cond_signal(&t->work);
    (void)pthread_mutex_unlock(&t->lock);
}

static int threads_wait(Reader *r, uint64_t timeout_usec, ReadPiece **ret) {
    Threads *t = (Threads *)r;
    uint64_t deadline = clock_deadline(MIN(timeout_usec, (uint64_t)3600 * USEC_PER_SEC));
    struct timespec at = {.tv_sec = (time_t)(deadline / USEC_PER_SEC),
            .tv_nsec = (long)(deadline % USEC_PER_SEC * 1000)};
    int rc = 0;
    (void)pthread_mutex_lock(&t->lock);
    while (!t->finished.first && rc == 0)
        rc = pthread_cond_timedwait(&t->done, &t->lock, &at);
    ReadPiece *p = list_take(&t->finished);
    (void)pthread_mutex_unlock(&t->lock);
    if (!p)
        return READER_TIMEOUT;
    *ret = p;
    return 0;
}

static void init_locks(Threads *t) {
    pthread_condattr_t monotonic; /* clock_deadline() is on this clock */
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_cond_init(&t->work, NULL);
    (void)pthread_cond_init(&t->done, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

int reader_open_threads(int depth, Reader **ret, Err *err) {
    static const ReaderOps ops = {.name = "threads",
            .close = threads_close,
            .region = threads_region,
            .submit = threads_submit,
            .wait = threads_wait};
    Threads *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, -ENOMEM, "no memory for a reader");
    t->base = (Reader){.ops = &ops, .depth = depth};
    list_init(&t->todo);
    list_init(&t->finished);
    init_locks(t);
    for (int i = 0; i < MIN(depth, (int)MAX_THREADS); i++) {
        int rc = pthread_create(&t->thread[i], NULL, thread_main, t);
        if (rc != 0 && i == 0) {
            threads_close(&t->base);
            return err_set(err, -rc, "cannot start a reading thread: %s", strerror(rc));
        }
        if (rc != 0)
            break; /* fewer are slower, not wrong */
        t->n_started++;
    }
    *ret = &t->base;
    return 0;
}
