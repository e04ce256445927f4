#include "backend/cuda/kernels.h"

/* Builds without machine code for compute capability 9.0: the portable kernel serves instead. */

cudaError_t conv_hopper(
        cudaStream_t s, TensorMapEncode encode, const IgemmArgs *a, void *scratch, size_t bytes) {
    (void)s, (void)encode, (void)a, (void)scratch, (void)bytes;
    return cudaErrorNotSupported;
}
