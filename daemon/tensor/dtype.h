/* dtype - element types of tensors, as safetensors names them. */
#ifndef PREHEAT_TENSOR_DTYPE_H
#define PREHEAT_TENSOR_DTYPE_H

#include <stddef.h>

typedef enum DType {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_U8,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_F64,
    N_DTYPES,
} DType;

/* dtype_bytes - size of one element. */
size_t dtype_bytes(DType t);

/* dtype_name - "F32", "BF16", ... */
const char *dtype_name(DType t);

#endif
