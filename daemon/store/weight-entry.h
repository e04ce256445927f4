/* weight-entry - a tensor as the head of a file of weights lists it, whatever the file's format. */
#ifndef PREHEAT_STORE_WEIGHT_ENTRY_H
#define PREHEAT_STORE_WEIGHT_ENTRY_H

#include "tensor/dtype.h"
#include "tensor/view.h"

#include <stdint.h>

typedef struct WeightEntry {
    const char *name;       /* in the arena of the head */
    const char *dtype_name; /* static, as the format has it */
    DType dtype;            /* N_DTYPES for those that preheat does not compute with */
    int rank;
    int64_t dim[VIEW_MAX_RANK];
    uint64_t offset, bytes; /* in the file */
} WeightEntry;

/* weight_entry_by_offset - for qsort(). Empty tensors come before the one that begins at the same
 * place, else they would look like an overlap. */
int weight_entry_by_offset(const void *a, const void *b);

#endif
