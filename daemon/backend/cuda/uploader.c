#include "backend/cuda/uploader.h"

#include "base/cleanup.h"
#include "base/pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_LANES = 10, N_SLOTS_EACH = 2 };

/* What a lane takes at once; less towards the end, so that all are done at the same time. Every
 * piece is three calls of the driver, under its lock: 2 MiB were slower. */
#define PIECE_BYTES ((size_t)4 << 20)
#define LAST_PIECE_BYTES ((size_t)512 << 10)

/* One thread's slots: one fills while the other is read. */
typedef struct Lane {
    char *slot[N_SLOTS_EACH]; /* PIECE_BYTES each, page-locked */
    cudaEvent_t done[N_SLOTS_EACH];
    unsigned next;
    cudaError_t error;
} Lane;

struct Uploader {
    Pool *pool;
    char *slots; /* all lanes' */
    bool locked;
    int device;
    int n_lanes;
    Lane lane[MAX_LANES];

    pthread_mutex_t turn; /* held for the whole of a run, whose the rest is */
    cudaStream_t stream;
    const Span *spans; /* bytes are numbered through all of them */
    size_t n_spans, bytes;
    atomic_size_t taken;
};

static size_t slots_bytes(const Uploader *u) {
    return (size_t)u->n_lanes * N_SLOTS_EACH * PIECE_BYTES;
}

/* Not all CPUs: the others belong to what else a start does. */
int uploader_lanes(void) {
    int n = MIN(pool_cpus() * 2 / 3, (int)MAX_LANES);
    return MAX(n, 1);
}

/* Pages that are there are locked in a fraction of the time. */
static void touch(void *context, int64_t begin, int64_t end, int worker) {
    Uploader *u = context;
    memset(u->slots + (size_t)begin, 0, (size_t)(end - begin));
}

int uploader_new(Uploader **ret, Err *err) {
    Uploader *u = calloc(1, sizeof(*u));
    if (!u)
        return err_set(err, -ENOMEM, "no memory for an uploader");
    u->n_lanes = uploader_lanes();
    (void)pthread_mutex_init(&u->turn, NULL);
    u->slots = aligned_alloc(PIECE_BYTES, slots_bytes(u));
    int r = u->slots ? pool_new(u->n_lanes, &u->pool, err)
                     : err_set(err, -ENOMEM, "no memory for %zu bytes of slots", slots_bytes(u));
    if (r < 0) {
        uploader_free(u);
        return r;
    }
    (void)madvise(u->slots, slots_bytes(u), MADV_HUGEPAGE); /* small pages do, too */
    pool_for(u->pool, (int64_t)slots_bytes(u), (int64_t)PIECE_BYTES, touch, u);
    *ret = u;
    return 0;
}

static cudaError_t lane_start(Lane *l, char *slots) {
    cudaError_t e = cudaSuccess;
    for (int i = 0; i < N_SLOTS_EACH && e == cudaSuccess; i++) {
        l->slot[i] = slots + (size_t)i * PIECE_BYTES;
        e = cudaEventCreateWithFlags(&l->done[i], cudaEventDisableTiming);
    }
    return e;
}

int uploader_start(Uploader *u, Err *err) {
    cudaError_t e = cudaGetDevice(&u->device);
    if (e == cudaSuccess)
        e = cudaHostRegister(u->slots, slots_bytes(u), cudaHostRegisterDefault);
    u->locked = e == cudaSuccess;
    for (int i = 0; i < u->n_lanes && e == cudaSuccess; i++)
        e = lane_start(&u->lane[i], u->slots + (size_t)(i * N_SLOTS_EACH) * PIECE_BYTES);
    return e == cudaSuccess ? 0 : cuda_error(e, "slots for uploads", err);
}

/* A slot may still be read. */
static void lane_done(Lane *l) {
    for (int i = 0; i < N_SLOTS_EACH; i++)
        if (l->done[i]) {
            (void)cudaEventSynchronize(l->done[i]);
            (void)cudaEventDestroy(l->done[i]);
        }
}

Uploader *uploader_free(Uploader *u) {
    if (!u)
        return NULL;
    for (int i = 0; i < u->n_lanes; i++)
        lane_done(&u->lane[i]);
    if (u->locked)
        (void)cudaHostUnregister(u->slots);
    (void)cudaGetLastError();
    free(u->slots);
    pool_free(u->pool);
    (void)pthread_mutex_destroy(&u->turn);
    free(u);
    return NULL;
}

/* Bytes begin .. end of the run; false when none are left. */
static bool take(Uploader *u, size_t *ret_begin, size_t *ret_end) {
    size_t begin = atomic_load_explicit(&u->taken, memory_order_relaxed), n;
    do {
        size_t left = u->bytes - begin, share = left / (2 * (size_t)u->n_lanes);
        size_t piece = MIN(share, PIECE_BYTES);
        piece = MAX(piece, LAST_PIECE_BYTES);
        n = MIN(left, piece);
    } while (n > 0 && !atomic_compare_exchange_weak_explicit(&u->taken, &begin, begin + n,
                              memory_order_relaxed, memory_order_relaxed));
    *ret_begin = begin;
    *ret_end = begin + n;
    return n > 0;
}

/* The first part of the bytes begin .. end that lies in one span; false when there is none. */
static bool next_part(const Uploader *u, size_t *begin, size_t end, Span *ret) {
    size_t at = 0;
    for (size_t i = 0; i < u->n_spans && *begin < end; i++) {
        const Span *span = &u->spans[i];
        if (*begin < at + span->n) {
            size_t skip = *begin - at;
            *ret = (Span){span->to + skip, span->from + skip, MIN(span->n - skip, end - *begin)};
            *begin += ret->n;
            return true;
        }
        at += span->n;
    }
    return false;
}

static cudaError_t copy_piece(const Uploader *u, Lane *l, size_t begin, size_t end) {
    unsigned i = l->next++ % N_SLOTS_EACH;
    char *at = l->slot[i];
    cudaError_t e = cudaEventSynchronize(l->done[i]);
    for (Span part; e == cudaSuccess && next_part(u, &begin, end, &part); at += part.n) {
        memcpy(at, part.from, part.n);
        e = cudaMemcpyAsync(part.to, at, part.n, cudaMemcpyHostToDevice, u->stream);
    }
    return e == cudaSuccess ? cudaEventRecord(l->done[i], u->stream) : e;
}

static cudaError_t run_lane(Uploader *u, Lane *l) {
    cudaError_t e = cudaSetDevice(u->device); /* of this thread */
    for (size_t begin, end; e == cudaSuccess && take(u, &begin, &end);)
        e = copy_piece(u, l, begin, end);
    return e;
}

static void run_lanes(void *context, int64_t first, int64_t last, int worker) {
    Uploader *u = context;
    for (int64_t i = first; i < last; i++)
        u->lane[i].error = run_lane(u, &u->lane[i]);
}

void uploader_run(Uploader *u, Stream *s, const Span *spans, size_t n) {
    (void)pthread_mutex_lock(&u->turn);
    u->stream = cuda_stream(s)->stream;
    u->spans = spans;
    u->n_spans = n;
    u->bytes = 0;
    for (size_t i = 0; i < n; i++)
        u->bytes += spans[i].n;
    atomic_store_explicit(&u->taken, 0, memory_order_relaxed);
    pool_for(u->pool, u->n_lanes, 1, run_lanes, u);
    cudaError_t e = cudaSuccess;
    for (int i = 0; i < u->n_lanes && e == cudaSuccess; i++)
        e = u->lane[i].error;
    (void)pthread_mutex_unlock(&u->turn);
    (void)cuda_check(s, e, "weight_import");
}
