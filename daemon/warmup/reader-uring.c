#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "warmup/reader-impl.h"

#include <liburing.h>
#include <string.h>

/* Owner: the thread that opened it. */
typedef struct Uring {
    Reader base;
    struct io_uring ring;
    bool sparse; /* the kernel has a table of buffers (5.19) */
    bool registered[READER_MAX_REGIONS];
} Uring;

static void uring_close(Reader *r) {
    Uring *u = (Uring *)r;
    io_uring_queue_exit(&u->ring);
    free(u);
}

/* Pinning once saves looking up the pages for each read: 0.5 ms for 256 MiB in huge pages. In small
 * ones it takes 65 ms, in which the disk runs out of requests. It counts against RLIMIT_MEMLOCK for
 * ordinary users, hence may fail. */
static void uring_region(Reader *r, int region, void *data, size_t bytes) {
    Uring *u = (Uring *)r;
    struct iovec v = {.iov_base = data, .iov_len = bytes};
    u->registered[region] =
            bytes > 0 && u->sparse && bytes <= (size_t)1 << 30 &&
            io_uring_register_buffers_update_tag(&u->ring, (unsigned)region, &v, NULL, 1) == 1;
}

static void uring_submit(Reader *r, ReadPiece *p) {
    Uring *u = (Uring *)r;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    assert(sqe); /* the ring has `depth` entries and each is submitted at once */
    if (u->registered[p->region])
        io_uring_prep_read_fixed(sqe, p->fd, p->to, (unsigned)p->bytes, p->offset, p->region);
    else
        io_uring_prep_read(sqe, p->fd, p->to, (unsigned)p->bytes, p->offset);
    if (p->slow)
        sqe->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(sqe, p);
    /* Refused for now (signal, memory): the entry stays in the ring, uring_wait() submits it again.
     */
    (void)io_uring_submit(&u->ring);
}

static int uring_wait(Reader *r, uint64_t timeout_usec, ReadPiece **ret) {
    Uring *u = (Uring *)r;
    struct __kernel_timespec t = {.tv_sec = (long long)(timeout_usec / USEC_PER_SEC),
            .tv_nsec = (long long)(timeout_usec % USEC_PER_SEC * 1000)};
    struct io_uring_cqe *cqe = NULL;
    if (io_uring_sq_ready(&u->ring) > 0)
        (void)io_uring_submit(&u->ring); /* what EAGAIN left behind; waited for below either way */
    int n = io_uring_wait_cqe_timeout(&u->ring, &cqe, timeout_usec == USEC_INFINITY ? NULL : &t);
    if (n == -ETIME || n == -EAGAIN)
        return READER_TIMEOUT;
    if (n < 0)
        return n;
    ReadPiece *p = io_uring_cqe_get_data(cqe);
    p->result = cqe->res;
    io_uring_cqe_seen(&u->ring, cqe);
    *ret = p;
    return 0;
}

int reader_open_uring(int depth, Reader **ret, Err *err) {
    static const ReaderOps ops = {.name = "io_uring",
            .close = uring_close,
            .region = uring_region,
            .submit = uring_submit,
            .wait = uring_wait};
    _cleanup_free_ Uring *u = calloc(1, sizeof(*u));
    if (!u)
        return err_set(err, -ENOMEM, "no memory for a reader");
    int r = io_uring_queue_init((unsigned)depth, &u->ring, 0);
    if (r < 0)
        return err_set(err, r, "cannot open an io_uring: %s", strerror(-r));
    u->sparse = io_uring_register_buffers_sparse(&u->ring, READER_MAX_REGIONS) == 0;
    u->base = (Reader){.ops = &ops, .depth = depth};
    *ret = &TAKE_PTR(u)->base;
    return 0;
}
