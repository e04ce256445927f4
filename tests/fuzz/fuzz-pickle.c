#include "fuzz.h"

#include "store/pickle.h"

#include <assert.h>

/* What passes must be tensors that lie in their storages, with shapes that multiply up. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Pickle p;
    if (pickle_parse(data, n, &p, NULL) < 0)
        return 0;
    for (size_t i = 0; i < p.n_tensors; i++) {
        const PickleTensor *t = &p.tensor[i];
        uint64_t count = 1;
        for (int k = 0; k < t->rank; k++)
            count *= (uint64_t)t->dim[k];
        assert(t->name && t->storage && t->rank <= VIEW_MAX_RANK && count == t->count);
        assert(t->first <= t->storage_count && t->count <= t->storage_count - t->first);
    }
    pickle_done(&p);
    return 0;
}
