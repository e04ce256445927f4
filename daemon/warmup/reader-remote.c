#include "base/cleanup.h"
#include "base/macro.h"
#include "warmup/reader-impl.h"

#include <string.h>

/* A piece and the request that serves it. */
typedef struct Errand {
    RemoteGet get;
    ReadPiece *piece;
    struct Errand *next_free;
} Errand;

/* Owner: the thread that opened it. */
typedef struct RemoteReader {
    Reader base;
    Remote *remote; /* borrowed */
    Errand *free_errands;
    Errand errand[];
} RemoteReader;

static void remote_close(Reader *r) {
    free(r);
}

static void remote_region(Reader *r, int region, void *data, size_t bytes) {
    /* nothing to announce: bytes are copied out of libcurl's buffer */
}

static int take_bytes(RemoteGet *g, uint64_t at, const void *data, size_t n) {
    const ReadPiece *p = ((Errand *)g->context)->piece;
    memcpy((char *)p->to + (at - p->offset), data, n);
    return 0;
}

static void remote_submit_piece(Reader *r, ReadPiece *p) {
    RemoteReader *a = (RemoteReader *)r;
    Errand *e = a->free_errands;
    a->free_errands = e->next_free;
    e->piece = p;
    e->get = (RemoteGet){.path = p->path,
            .offset = p->offset,
            .bytes = MIN((uint64_t)p->bytes, p->file_bytes - p->offset),
            .file_bytes = p->file_bytes,
            .take = take_bytes,
            .context = e};
    remote_submit(a->remote, &e->get);
}

static void remote_cancel_all(Reader *r) {
    remote_cancel(((RemoteReader *)r)->remote);
}

static int remote_wait_piece(Reader *r, uint64_t timeout_usec, ReadPiece **ret) {
    RemoteReader *a = (RemoteReader *)r;
    RemoteGet *g;
    if (remote_wait(a->remote, timeout_usec, &g) == REMOTE_TIMEOUT)
        return READER_TIMEOUT;
    Errand *e = g->context;
    e->piece->result = g->result < 0 ? g->result : (ssize_t)g->bytes;
    e->piece->err = g->err;
    *ret = e->piece;
    e->next_free = a->free_errands;
    a->free_errands = e;
    return 0;
}

int reader_open_remote(Remote *remote, int depth, Reader **ret, Err *err) {
    static const ReaderOps ops = {.name = "libcurl",
            .close = remote_close,
            .region = remote_region,
            .submit = remote_submit_piece,
            .cancel = remote_cancel_all,
            .wait = remote_wait_piece};
    assert(depth >= 1 && depth <= READER_MAX_DEPTH);
    RemoteReader *a = calloc(1, sizeof(*a) + (size_t)depth * sizeof(a->errand[0]));
    if (!a)
        return err_set(err, -ENOMEM, "no memory for a reader");
    a->base = (Reader){.ops = &ops, .depth = depth};
    a->remote = remote;
    for (int i = 0; i < depth; i++) {
        a->errand[i].next_free = a->free_errands;
        a->free_errands = &a->errand[i];
    }
    *ret = &a->base;
    return 0;
}
