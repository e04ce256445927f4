#include "store/weight-entry.h"

int weight_entry_by_offset(const void *a, const void *b) {
    const WeightEntry *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}
