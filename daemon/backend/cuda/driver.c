#include "backend/cuda/driver.h"

#include <errno.h>
#include <stddef.h>

static const struct {
    const char *name;
    size_t offset;
    unsigned version; /* of the interface that the PFN type describes */
    bool optional;
} calls[] = {
        {"cuMemGetAllocationGranularity", offsetof(Driver, granularity), 10020, false},
        {"cuMemCreate", offsetof(Driver, create), 10020, false},
        {"cuMemRelease", offsetof(Driver, release), 10020, false},
        {"cuMemAddressReserve", offsetof(Driver, reserve), 10020, false},
        {"cuMemAddressFree", offsetof(Driver, unreserve), 10020, false},
        {"cuMemMap", offsetof(Driver, map), 10020, false},
        {"cuMemUnmap", offsetof(Driver, unmap), 10020, false},
        {"cuMemSetAccess", offsetof(Driver, set_access), 10020, false},
        {"cuMemExportToShareableHandle", offsetof(Driver, export), 10020, false},
        {"cuMemImportFromShareableHandle", offsetof(Driver, import), 10020, false},
        {"cuGetErrorString", offsetof(Driver, error_string), 6000, false},
        {"cuTensorMapEncodeTiled", offsetof(Driver, encode), 12000, true},
};

int driver_find(Driver *d, Err *err) {
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        void *function = NULL;
        enum cudaDriverEntryPointQueryResult found;
        cudaError_t e = cudaGetDriverEntryPointByVersion(
                calls[i].name, &function, calls[i].version, cudaEnableDefault, &found);
        if (e != cudaSuccess || found != cudaDriverEntryPointSuccess) {
            (void)cudaGetLastError(); /* told here; must not fail the next launch check */
            if (!calls[i].optional)
                return err_set(
                        err, -ENODEV, "the installed NVIDIA driver has no %s", calls[i].name);
            function = NULL;
        }
        *(void **)((char *)d + calls[i].offset) = function;
    }
    return 0;
}

int driver_error(const Driver *d, CUresult result, const char *what, Err *err) {
    const char *text = NULL;
    if (d->error_string(result, &text) != CUDA_SUCCESS || !text)
        text = "unknown error";
    int code = result == CUDA_ERROR_OUT_OF_MEMORY ? -ENOMEM
               : result == CUDA_ERROR_NO_DEVICE   ? -ENODEV
                                                  : -EIO;
    return err_set(err, code, "%s: %s (CUresult %d)", what, text, (int)result);
}

int cuda_errno(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return 0;
    case cudaErrorMemoryAllocation:
        return -ENOMEM;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorStubLibrary:
        return -ENODEV;
    case cudaErrorNotSupported:
        return -ENOTSUP;
    case cudaErrorNotPermitted:
        return -EPERM;
    default:
        return -EIO;
    }
}

int cuda_error(cudaError_t e, const char *what, Err *err) {
    (void)cudaGetLastError();
    return err_set(err, cuda_errno(e), "%s: %s", what, cudaGetErrorString(e));
}
