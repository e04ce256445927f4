/* nonfinite - counts NaN and infinite elements; a checkpoint should have none. */
#ifndef PREHEAT_STORE_NONFINITE_H
#define PREHEAT_STORE_NONFINITE_H

#include "tensor/dtype.h"

#include <stddef.h>
#include <stdint.h>

/* nonfinite_count - in n bytes of aligned elements; 0 for integer types. */
uint64_t nonfinite_count(DType dtype, const void *data, size_t n);

#endif
