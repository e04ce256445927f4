/* pickle - a dictionary of tensors as torch.save() pickles it, read without running anything.
 *
 * A machine with a stack and a memo, as the format asks for, that can make numbers, texts, tuples,
 * dictionaries, storages and tensors. There is no table of callables: the two that a state dict
 * calls, collections.OrderedDict and torch._utils._rebuild_tensor_v2, are written out here; any
 * other name, and any opcode that such a file has no use for, is refused with its name. Nothing is
 * walked in depth, so that no nesting exhausts the C stack. Protocol 2, which is torch's.
 *
 * Read are F32, F16 and BF16 in row-major order. Where a storage's bytes are is not known here. */
#ifndef PREHEAT_STORE_PICKLE_H
#define PREHEAT_STORE_PICKLE_H

#include "base/arena.h"
#include "base/err.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

#include <stdint.h>

enum {
    PICKLE_MAX_BYTES = 4 * 1024 * 1024, /* the DiT's 825 tensors take 0.1 MB */
    PICKLE_MAX_VALUES = 1000 * 1000,    /* made, also if dropped again; 15 a tensor */
    PICKLE_MAX_STACK = 100 * 1000,      /* torch hands over 1,000 items at a time */
    PICKLE_MAX_MARKS = 64,
};

typedef struct PickleTensor {
    const char *name;       /* in the arena, as storage */
    const char *storage;    /* its key */
    uint64_t storage_count; /* elements of the whole storage */
    uint64_t first, count;  /* elements of it that are this tensor */
    DType dtype;
    int rank;
    int64_t dim[VIEW_MAX_RANK];
} PickleTensor;

typedef struct Pickle {
    Arena arena;
    PickleTensor *tensor; /* in the dictionary's order */
    size_t n_tensors;
} Pickle;

/* pickle_parse - a pickle that fills the n bytes.
 *
 * Returns 0; -EBADMSG naming opcode, callable or tensor and what is wrong; -ENOMEM. The caller
 * frees *ret with pickle_done(). */
int pickle_parse(const void *data, size_t n, Pickle *ret, Err *err);

void pickle_done(Pickle *p);

#endif
