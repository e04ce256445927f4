#include "warmup/reader.h"

#include "warmup/reader-impl.h"

#include <errno.h>

int reader_open(ReaderKind kind, int depth, Reader **ret, Err *err) {
    assert(depth >= 1 && depth <= READER_MAX_DEPTH);
    if (kind == READER_THREADS)
        return reader_open_threads(depth, ret, err);
    int r = reader_open_uring(depth, ret, err);
    if (r == 0 || kind == READER_URING)
        return r;
    err_clear(err); /* an old kernel, a seccomp filter, kernel.io_uring_disabled: all the same */
    return reader_open_threads(depth, ret, err);
}

Reader *reader_close(Reader *r) {
    if (r) {
        assert(r->n_under_way == 0);
        r->ops->close(r);
    }
    return NULL;
}

const char *reader_name(const Reader *r) {
    return r->ops->name;
}

void reader_region(Reader *r, int region, void *data, size_t bytes) {
    assert(region >= 0 && region < READER_MAX_REGIONS);
    r->ops->region(r, region, data, bytes);
}

void reader_submit(Reader *r, ReadPiece *p) {
    assert(r->n_under_way < r->depth);
    r->n_under_way++;
    r->ops->submit(r, p);
}

void reader_cancel(Reader *r) {
    if (r->ops->cancel)
        r->ops->cancel(r);
}

int reader_wait(Reader *r, uint64_t timeout_usec, ReadPiece **ret) {
    assert(r->n_under_way > 0);
    int result = r->ops->wait(r, timeout_usec, ret);
    if (result == 0)
        r->n_under_way--;
    return result;
}
