/* driver - the few calls of the CUDA driver that the runtime has no form of, found at run time. */
#ifndef PREHEAT_BACKEND_CUDA_DRIVER_H
#define PREHEAT_BACKEND_CUDA_DRIVER_H

#include "backend/cuda/kernels.h"
#include "base/err.h"

#include <cudaTypedefs.h>

typedef struct Driver {
    PFN_cuMemGetAllocationGranularity_v10020 granularity;
    PFN_cuMemCreate_v10020 create;
    PFN_cuMemRelease_v10020 release;
    PFN_cuMemAddressReserve_v10020 reserve;
    PFN_cuMemAddressFree_v10020 unreserve;
    PFN_cuMemMap_v10020 map;
    PFN_cuMemUnmap_v10020 unmap;
    PFN_cuMemSetAccess_v10020 set_access;
    PFN_cuMemExportToShareableHandle_v10020 export;
    PFN_cuMemImportFromShareableHandle_v10020 import;
    PFN_cuGetErrorString_v6000 error_string;
    TensorMapEncode encode; /* NULL where the driver has none */
} Driver;

/* driver_find - fills d; -ENODEV names the call that the installed driver lacks. */
int driver_find(Driver *d, Err *err);

/* driver_error - err_set with the driver's own words for result and the errno that fits. */
int driver_error(const Driver *d, CUresult result, const char *what, Err *err);

/* cuda_errno - the negative errno for a failure of the runtime; the room's rule of style 4.4. */
int cuda_errno(cudaError_t e);

/* cuda_error - err_set with the runtime's words; clears the runtime's sticky last error. */
int cuda_error(cudaError_t e, const char *what, Err *err);

#endif
