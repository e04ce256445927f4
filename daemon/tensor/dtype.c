#include "tensor/dtype.h"

#include "base/macro.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[N_DTYPES] = {
        [DTYPE_F32] = {"F32", 4},
        [DTYPE_F16] = {"F16", 2},
        [DTYPE_BF16] = {"BF16", 2},
        [DTYPE_U8] = {"U8", 1},
        [DTYPE_I32] = {"I32", 4},
        [DTYPE_I64] = {"I64", 8},
        [DTYPE_F64] = {"F64", 8},
};

size_t dtype_bytes(DType t) {
    assert(t < N_DTYPES);
    return dtypes[t].bytes;
}

const char *dtype_name(DType t) {
    assert(t < N_DTYPES);
    return dtypes[t].name;
}
