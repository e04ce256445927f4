/* reader-impl - what a kind of reader implements. */
#ifndef PREHEAT_WARMUP_READER_IMPL_H
#define PREHEAT_WARMUP_READER_IMPL_H

#include "warmup/reader.h"

/* Each kind's state begins with this. */
struct Reader {
    const struct ReaderOps *ops;
    int depth, n_under_way;
};

typedef struct ReaderOps {
    const char *name;
    void (*close)(Reader *r);
    void (*region)(Reader *r, int region, void *data, size_t bytes);
    void (*submit)(Reader *r, ReadPiece *p);
    void (*cancel)(Reader *r); /* may be NULL */
    int (*wait)(Reader *r, uint64_t timeout_usec, ReadPiece **ret);
} ReaderOps;

int reader_open_uring(int depth, Reader **ret, Err *err);
int reader_open_threads(int depth, Reader **ret, Err *err);

#endif
