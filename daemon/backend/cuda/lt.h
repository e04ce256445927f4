/* lt - matrix products through cuBLASLt, which is loaded on a thread of its own.
 *
 * The library is 0.5 GB of file and takes 0.06 to 0.5 s until its first product; lt_start() returns
 * at once and the first lt_product() waits for what is left of that. A machine without the library
 * gets -ENOTSUP from every product. Owner: the worker thread. */
#ifndef PREHEAT_BACKEND_CUDA_LT_H
#define PREHEAT_BACKEND_CUDA_LT_H

#include "backend/cuda/kernels.h"

typedef struct Lt Lt;

/* y = act(x w^T + bias): y [m, n] bf16 or f32, x [m, k] bf16, w [n, k] bf16, dense rows. */
typedef struct LtProduct {
    void *y;
    const void *x, *w, *bias; /* bias in y's dtype, or NULL */
    int64_t m, n, k, y_stride, x_stride;
    DType out;
    bool gelu;
} LtProduct;

enum { LT_WORKSPACE_BYTES = 32 << 20 };

/* lt_start - opens the library while the device's context is made; NULL when out of memory or
 * threads: then there is no library. lt_go_on - the context is there; takes NULL. */
Lt *lt_start(int device);
void lt_go_on(Lt *lt);
Lt *lt_free(Lt *lt);

/* lt_product - queues the product; workspace has LT_WORKSPACE_BYTES of device memory.
 *
 * The algorithm is looked up once a shape, without those that add in varying order. Returns 0;
 * -ENOTSUP when the library is missing or has nothing for this shape and alignment, nothing being
 * queued then; -EIO. */
int lt_product(Lt *lt, cudaStream_t s, const LtProduct *p, void *workspace);

#endif
