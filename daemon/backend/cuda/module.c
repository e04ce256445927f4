#include "backend/cuda/cuda-impl.h"
#include "backend/cuda/lt.h"
#include "backend/cuda/uploader.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The table is filled per backend: one symbol, no static mutable state. */
typedef struct Device {
    CudaBackend cuda;
    BackendOps ops;
} Device;

static void parts_free(CudaBackend *b) {
    b->uploader = uploader_free(b->uploader);
    b->lt = lt_free(b->lt);
}

static void device_free(Backend *base) {
    CudaBackend *b = cuda_backend(base);
    (void)cudaDeviceSynchronize();
    parts_free(b);
    pins_done(&b->pins);
    (void)pthread_mutex_destroy(&b->lock);
    free(CONTAINER_OF(b, Device, cuda));
}

/* cuMemCreate() gives blocks that can be handed to another process as a descriptor, so that weights
 * can stay on the card when this one ends. */
static int place_find(CudaBackend *b, Err *err) {
    b->place = (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
            .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
            .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = b->device}};
    CUresult e =
            b->driver.granularity(&b->granularity, &b->place, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
    if (e != CUDA_SUCCESS) {
        b->place.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
        e = b->driver.granularity(&b->granularity, &b->place, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
    }
    return e == CUDA_SUCCESS ? 0
                             : driver_error(&b->driver, e, "cuMemGetAllocationGranularity", err);
}

/* Makes the device's context; everything before it works without a device. */
static int device_find(CudaBackend *b, int want, Err *err) {
    int n = 0, major = 0, minor = 0, read_only = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess)
        return cuda_error(e, "no CUDA device", err);
    if (want < 0 || want >= n)
        return err_set(err, -ENODEV, "no CUDA device %d, there are %d", want, n);
    b->device = want;
    if ((e = cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync)) != cudaSuccess ||
            (e = cudaInitDevice(want, 0, 0)) != cudaSuccess ||
            (e = cudaSetDevice(want)) != cudaSuccess ||
            (e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, want)) !=
                    cudaSuccess ||
            (e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, want)) !=
                    cudaSuccess ||
            (e = cudaDeviceGetAttribute(
                     &read_only, cudaDevAttrHostRegisterReadOnlySupported, want)) != cudaSuccess)
        return cuda_error(e, "cannot use the CUDA device", err);
    if (major < 8)
        return err_set(err, -ENODEV,
                "CUDA device %d has compute capability %d.%d, 8.0 or later is needed", want, major,
                minor);
    int r = driver_find(&b->driver, err);
    if (r < 0)
        return r;
    b->read_only_pins = read_only != 0;
    b->hopper = major == 9 && minor == 0 && b->driver.encode && !b->portable;
    return place_find(b, err);
}

static int info_fill(CudaBackend *b, Err *err) {
    struct cudaDeviceProp properties;
    cudaError_t e = cudaGetDeviceProperties(&properties, b->device);
    if (e != cudaSuccess)
        return cuda_error(e, "cudaGetDeviceProperties", err);
    b->base.info = (BackendInfo){.name = "cuda",
            .activation = b->exact ? DTYPE_F32 : DTYPE_BF16,
            .memory_total = properties.totalGlobalMem,
            .fast_unpinned = uploader_lanes() >= UPLOADER_FEW};
    static_assert(sizeof(properties.uuid) == sizeof(b->base.info.uuid), "a UUID has 16 bytes");
    memcpy(b->base.info.uuid, &properties.uuid, sizeof(b->base.info.uuid));
    (void)snprintf(b->base.info.device, sizeof(b->base.info.device), "%.95s", properties.name);
    return 0;
}

/* What takes time and no context goes on, or is done, before the context is made. */
static int parts_new(CudaBackend *b, const BackendOptions *options, Err *err) {
    int version = 0; /* asked so that the driver's library is open before one that takes long */
    (void)cudaDriverGetVersion(&version);
    if (version == 0)
        return 0; /* no driver, as device_find() will say */
    if (!b->exact)
        b->lt = lt_start(options->device);
    return uploader_new(&b->uploader, err);
}

static int parts_start(CudaBackend *b, Err *err) {
    lt_go_on(b->lt);
    return uploader_start(b->uploader, err);
}

static void ops_fill(BackendOps *ops) {
    *ops = (BackendOps){.free = device_free,
            .memory_free_bytes = cuda_memory_free_bytes,
            .memory_new = cuda_memory_new,
            .memory_free = cuda_memory_free,
            .memory_export = cuda_memory_export,
            .memory_import = cuda_memory_import,
            .pin = cuda_pin,
            .unpin = cuda_unpin,
            .weight_bytes = cuda_weight_bytes,
            .weight_import = cuda_weight_import,
            .weight_view = cuda_weight_view,
            .stream_new = cuda_stream_new,
            .stream_free = cuda_stream_free,
            .stream_sync = cuda_stream_sync,
            .upload = cuda_upload,
            .download = cuda_download,
            .event_new = cuda_event_new,
            .event_free = cuda_event_free,
            .record = cuda_record,
            .wait = cuda_wait};
    cuda_ops_fill(ops);
}

static int module_open(const BackendOptions *options, Backend **ret, Err *err) {
    _cleanup_free_ Device *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(err, -ENOMEM, "no memory for a backend");
    CudaBackend *b = &d->cuda;
    b->exact = options->exact_f32;
    b->portable = options->isa == ISA_PORTABLE;
    b->limit = options->memory_limit;
    if (options->isa != ISA_BEST && options->isa != ISA_PORTABLE)
        return err_set(
                err, -ENOTSUP, "the CUDA backend has no kernels for a CPU's instruction set");
    int r = parts_new(b, options, err);
    if (r == 0)
        r = device_find(b, options->device, err);
    if (r == 0)
        r = info_fill(b, err);
    if (r == 0)
        r = parts_start(b, err);
    if (r < 0) {
        parts_free(b);
        return r;
    }
    (void)pthread_mutex_init(&b->lock, NULL);
    ops_fill(&d->ops);
    b->base.ops = &d->ops;
    *ret = &b->base;
    (void)TAKE_PTR(d);
    return 0;
}

__attribute__((visibility("default"))) extern const BackendModule preheat_backend;
const BackendModule preheat_backend = {.abi = BACKEND_ABI, .name = "cuda", .open = module_open};
