#include "warmup/populator.h"

#include "base/macro.h"
#include "base/size.h"

#include <pthread.h>

#define SLICE_BYTES (16 * MIB)

/* One chunk on its way to its pages, in bytes. */
typedef struct Progress {
    uint64_t taken, done; /* begun by a thread; tried */
    uint64_t room;        /* 0: nothing to do */
} Progress;

typedef struct Slice {
    size_t chunk;
    uint64_t at, bytes;
} Slice;

/* The lock guards the chunks' progress, `next` and `stopping`. */
struct Populator {
    const Manifest *m;
    Segment *s;
    pthread_mutex_t lock;
    Progress *chunk; /* [n_chunks] */
    size_t next;     /* the first chunk that is not wholly taken */
    bool stopping;
    int n_started;
    pthread_t thread[];
};

/* Called with the lock held. */
static bool take_slice(Populator *p, Slice *ret) {
    size_t n = manifest_n_chunks(p->m);
    while (p->next < n && p->chunk[p->next].taken == p->chunk[p->next].room)
        p->next++;
    if (p->stopping || p->next == n)
        return false;
    Progress *c = &p->chunk[p->next];
    *ret = (Slice){p->next, c->taken, MIN(SLICE_BYTES, c->room - c->taken)};
    c->taken += ret->bytes;
    return true;
}

static void *thread_main(void *context) {
    Populator *p = context;
    Slice slice;
    (void)pthread_mutex_lock(&p->lock);
    while (take_slice(p, &slice)) {
        (void)pthread_mutex_unlock(&p->lock);
        /* Without its pages a chunk fails when it is read: there it is told. */
        (void)segment_populate(p->s, slice.chunk, slice.at, slice.bytes);
        (void)pthread_mutex_lock(&p->lock);
        p->chunk[slice.chunk].done += slice.bytes;
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Returns whether there is anything to do. */
static bool look_at_chunks(Populator *p) {
    bool any = false;
    for (size_t i = 0; i < manifest_n_chunks(p->m); i++) {
        uint64_t bytes;
        if (segment_state(p->s, i) == SEGMENT_READY || !segment_chunk_is_huge(p->s, i))
            continue;
        (void)segment_chunk(p->s, i, &bytes, &p->chunk[i].room);
        any = true;
    }
    return any;
}

int populator_new(const Manifest *m, Segment *s, int n_threads, Populator **ret, Err *err) {
    _cleanup_free_ Progress *chunk = calloc(manifest_n_chunks(m), sizeof(*chunk));
    Populator *p = calloc(1, sizeof(*p) + (size_t)n_threads * sizeof(p->thread[0]));
    if (!chunk || !p) {
        free(p);
        return err_set(
                err, -ENOMEM, "no memory to take pages for %zu chunks", manifest_n_chunks(m));
    }
    p->m = m;
    p->s = s;
    p->chunk = TAKE_PTR(chunk);
    (void)pthread_mutex_init(&p->lock, NULL); /* default attributes: cannot fail on Linux */
    bool any = look_at_chunks(p);
    for (int i = 0; i < n_threads && any; i++)
        if (pthread_create(&p->thread[p->n_started], NULL, thread_main, p) == 0)
            p->n_started++;
    *ret = p;
    return 0;
}

Populator *populator_free(Populator *p) {
    if (!p)
        return NULL;
    (void)pthread_mutex_lock(&p->lock);
    p->stopping = true;
    (void)pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_started; i++)
        (void)pthread_join(p->thread[i], NULL);
    (void)pthread_mutex_destroy(&p->lock);
    free(p->chunk);
    free(p);
    return NULL;
}

bool populator_has(Populator *p, size_t chunk) {
    (void)pthread_mutex_lock(&p->lock);
    bool all = p->chunk[chunk].done == p->chunk[chunk].room;
    (void)pthread_mutex_unlock(&p->lock);
    return all;
}
