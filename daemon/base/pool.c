#include "base/pool.h"

#include "base/cleanup.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A loop is published under the lock by a new generation; `next` hands out its pieces without it.
 * The caller waits until `busy` is 0, so nobody touches the loop's fields after pool_for()
 * returned. */
struct Pool {
    pthread_mutex_t turn; /* held for the whole of a loop, so that `worker` names one thread */
    pthread_mutex_t lock; /* guards generation, busy, stopping and the loop's description */
    pthread_cond_t work, idle;
    uint64_t generation;
    int busy;
    bool stopping;

    PoolFunc *func;
    void *context;
    int64_t n, grain;
    _Atomic int64_t next;

    int n_workers, n_started; /* without the caller */
    struct Worker {
        Pool *pool;
        int index;
        pthread_t thread;
    } worker[];
};

/* Relaxed is enough for `next`: the loop's data is published by the lock. */
static void take_pieces(Pool *p, int worker) {
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed);
        if (begin >= p->n)
            return;
        p->func(p->context, begin, MIN(begin + p->grain, p->n), worker);
    }
}

static void *worker_main(void *argument) {
    struct Worker *w = argument;
    Pool *p = w->pool;
    uint64_t seen = 0;
    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->stopping && p->generation == seen)
            (void)pthread_cond_wait(&p->work, &p->lock);
        if (p->stopping)
            break;
        seen = p->generation;
        (void)pthread_mutex_unlock(&p->lock);
        take_pieces(p, w->index);
        (void)pthread_mutex_lock(&p->lock);
        if (--p->busy == 0)
            (void)pthread_cond_signal(&p->idle);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

int pool_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return MAX(CPU_COUNT(&set), 1);
}

int pool_new(int n_threads, Pool **ret, Err *err) {
    int n_workers = (n_threads > 0 ? n_threads : pool_cpus()) - 1;
    Pool *p = calloc(1, sizeof(*p) + (size_t)n_workers * sizeof(p->worker[0]));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for a pool of %d threads", n_workers + 1);
    (void)pthread_mutex_init(&p->turn, NULL);
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->work, NULL);
    (void)pthread_cond_init(&p->idle, NULL);
    p->n_workers = n_workers;
    for (int i = 0; i < n_workers; i++) {
        p->worker[i] = (struct Worker){.pool = p, .index = i + 1};
        int r = pthread_create(&p->worker[i].thread, NULL, worker_main, &p->worker[i]);
        if (r != 0) {
            pool_free(p);
            return err_set(
                    err, -r, "cannot start thread %d of %d: %s", i + 2, n_workers + 1, strerror(r));
        }
        p->n_started++;
    }
    *ret = p;
    return 0;
}

Pool *pool_free(Pool *p) {
    if (!p)
        return NULL;
    (void)pthread_mutex_lock(&p->lock);
    p->stopping = true;
    (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_started; i++)
        (void)pthread_join(p->worker[i].thread, NULL);
    (void)pthread_cond_destroy(&p->idle);
    (void)pthread_cond_destroy(&p->work);
    (void)pthread_mutex_destroy(&p->lock);
    (void)pthread_mutex_destroy(&p->turn);
    free(p);
    return NULL;
}

int pool_size(const Pool *p) {
    return p->n_workers + 1;
}

static void share_loop(Pool *p, int64_t n, int64_t grain, PoolFunc *func, void *context) {
    (void)pthread_mutex_lock(&p->lock);
    assert(p->busy == 0);
    p->func = func;
    p->context = context;
    p->n = n;
    p->grain = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    p->busy = p->n_workers;
    p->generation++;
    (void)pthread_cond_broadcast(&p->work);
    (void)pthread_mutex_unlock(&p->lock);

    take_pieces(p, 0);

    (void)pthread_mutex_lock(&p->lock);
    while (p->busy > 0)
        (void)pthread_cond_wait(&p->idle, &p->lock);
    (void)pthread_mutex_unlock(&p->lock);
}

void pool_for(Pool *p, int64_t n, int64_t grain, PoolFunc *func, void *context) {
    assert(n >= 0 && grain > 0);
    if (n == 0)
        return;
    (void)pthread_mutex_lock(&p->turn);
    if (n <= grain || p->n_workers == 0)
        func(context, 0, n, 0);
    else
        share_loop(p, n, grain, func, context);
    (void)pthread_mutex_unlock(&p->turn);
}
