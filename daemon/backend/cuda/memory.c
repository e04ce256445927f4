#include "backend/cuda/cuda-impl.h"
#include "base/cleanup.h"
#include "base/size.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define PIN_BYTES ((size_t)256 << 20)

uint64_t cuda_memory_free_bytes(Backend *base) {
    CudaBackend *b = cuda_backend(base);
    size_t free_bytes, total;
    (void)cudaSetDevice(b->device); /* of this thread; fails as the next call does */
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    uint64_t left = free_bytes;
    if (b->limit > 0) {
        (void)pthread_mutex_lock(&b->lock);
        left = MIN(left, b->limit > b->used ? b->limit - b->used : 0);
        (void)pthread_mutex_unlock(&b->lock);
    }
    return left;
}

/* Undoes what memory_map() did up to the failing step. */
static void memory_unmap(CudaBackend *b, CudaMemory *m, bool is_mapped) {
    if (is_mapped)
        (void)b->driver.unmap((CUdeviceptr)m->base.data, m->mapped);
    if (m->base.data)
        (void)b->driver.unreserve((CUdeviceptr)m->base.data, m->mapped);
    if (m->handle)
        (void)b->driver.release(m->handle);
}

/* Gives the block of m->handle an address; the block is released where that fails. */
static int memory_map(CudaBackend *b, CudaMemory *m, Err *err) {
    const Driver *d = &b->driver;
    CUdeviceptr address;
    CUresult e = d->reserve(&address, m->mapped, 0, 0, 0);
    if (e != CUDA_SUCCESS) {
        memory_unmap(b, m, false);
        return driver_error(d, e, "cuMemAddressReserve", err);
    }
    m->base.data = (void *)address;
    e = d->map(address, m->mapped, 0, m->handle, 0);
    if (e != CUDA_SUCCESS) {
        memory_unmap(b, m, false);
        return driver_error(d, e, "cuMemMap", err);
    }
    CUmemAccessDesc access = {
            .location = b->place.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    e = d->set_access(address, m->mapped, &access, 1);
    if (e != CUDA_SUCCESS) {
        memory_unmap(b, m, true);
        return driver_error(d, e, "cuMemSetAccess", err);
    }
    return 0;
}

/* Counts the bytes as used before they are: two threads may ask at once. */
static int memory_count(CudaBackend *b, size_t bytes, Err *err) {
    (void)pthread_mutex_lock(&b->lock);
    uint64_t used = b->used;
    bool fits = b->limit == 0 || (used <= b->limit && bytes <= b->limit - used);
    if (fits)
        b->used += bytes;
    (void)pthread_mutex_unlock(&b->lock);
    return fits ? 0
                : err_set(err, -ENOMEM,
                          "%zu bytes of device memory wanted, %llu in use, the limit is %llu",
                          bytes, (unsigned long long)used, (unsigned long long)b->limit);
}

static void memory_uncount(CudaBackend *b, size_t bytes) {
    (void)pthread_mutex_lock(&b->lock);
    b->used -= bytes;
    (void)pthread_mutex_unlock(&b->lock);
}

static int block_create(CudaBackend *b, CudaMemory *m, Err *err) {
    CUresult e = b->driver.create(&m->handle, m->mapped, &b->place, 0);
    return e == CUDA_SUCCESS ? 0 : driver_error(&b->driver, e, "cuMemCreate", err);
}

/* The descriptor itself takes the place of a pointer in this call. */
static int block_import(CudaBackend *b, int fd, CudaMemory *m, Err *err) {
    CUresult e = b->driver.import(
            &m->handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    return e == CUDA_SUCCESS ? 0
                             : driver_error(&b->driver, e, "cuMemImportFromShareableHandle", err);
}

/* A new block, or with fd >= 0 the one behind it. */
static int memory_make(Backend *base, size_t bytes, int fd, Memory **ret, Err *err) {
    CudaBackend *b = cuda_backend(base);
    uint64_t sum;
    if (!size_add(bytes, b->granularity - 1, &sum))
        return err_set(
                err, -ENOMEM, "%zu bytes of device memory are more than can be addressed", bytes);
    _cleanup_free_ CudaMemory *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, -ENOMEM, "no memory for a block's record");
    m->base = (Memory){.backend = base, .bytes = bytes};
    m->mapped = size_align(MAX(bytes, (size_t)1), b->granularity);
    int r = memory_count(b, m->mapped, err);
    if (r < 0)
        return r;
    (void)cudaSetDevice(b->device); /* of this thread; fails as the next call does */
    r = fd < 0 ? block_create(b, m, err) : block_import(b, fd, m, err);
    if (r == 0)
        r = memory_map(b, m, err);
    if (r < 0) {
        memory_uncount(b, m->mapped);
        return err_prefix(err, r, "%zu bytes of device memory", m->mapped);
    }
    *ret = &TAKE_PTR(m)->base;
    return 0;
}

int cuda_memory_new(Backend *b, size_t bytes, Memory **ret, Err *err) {
    return memory_make(b, bytes, -1, ret, err);
}

int cuda_memory_export(Memory *base, int *ret_fd, Err *err) {
    const CudaBackend *b = cuda_backend(base->backend);
    const CudaMemory *m = CONTAINER_OF(base, CudaMemory, base);
    if (b->place.requestedHandleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return err_set(err, -ENOTSUP, "the driver gives no descriptors of this device's memory");
    int fd = -1;
    (void)cudaSetDevice(b->device); /* of this thread; fails as the next call does */
    CUresult e = b->driver.export(&fd, m->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (e != CUDA_SUCCESS)
        return driver_error(&b->driver, e, "cuMemExportToShareableHandle", err);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* cannot fail for an open descriptor */
    *ret_fd = fd;
    return 0;
}

/* The driver's descriptors are files of /dev/nvidiactl; it tells blocks of another size itself. */
int cuda_memory_import(Backend *b, int fd, size_t bytes, Memory **ret, Err *err) {
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode))
        return err_set(err, -EBADMSG, "descriptor %d is not one of the NVIDIA driver", fd);
    return memory_make(b, bytes, fd, ret, err);
}

void cuda_memory_free(Memory *base) {
    CudaMemory *m = CONTAINER_OF(base, CudaMemory, base);
    CudaBackend *b = cuda_backend(base->backend);
    /* Queued work may still use it. A lost device is told where it matters, at stream_finish(). */
    (void)cudaDeviceSynchronize();
    (void)cudaGetLastError();
    memory_unmap(b, m, true);
    memory_uncount(b, m->mapped);
    free(m);
}

static int pins_reserve(Pins *p, size_t more) {
    if (p->n + more <= p->room)
        return 0;
    size_t room = 2 * p->room + more;
    Pin *pin = realloc(p->pin, room * sizeof(*pin));
    if (!pin)
        return -ENOMEM;
    p->pin = pin;
    p->room = room;
    return 0;
}

/* Read-only mappings need the flag; where the device has it not, they cannot be locked. */
static cudaError_t pin_lock(const CudaBackend *b, const Pin *pin) {
    unsigned flags = cudaHostRegisterDefault | (b->read_only_pins ? cudaHostRegisterReadOnly : 0);
    cudaError_t e = cudaHostRegister((void *)pin->data, pin->bytes, flags);
    (void)cudaGetLastError(); /* sticky: the next launch check would find it */
    return e;
}

/* What the caller may go on without; a device that is lost shows at the next stream_finish(). */
static int pin_errno(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? -ENOMEM
           : e == cudaErrorNotPermitted   ? -EPERM
                                          : -ENOTSUP;
}

/* Under the lock. All pieces or none. */
static int pins_add(CudaBackend *b, const char *data, size_t bytes, Err *err) {
    if (pins_reserve(&b->pins, bytes / PIN_BYTES + 1) < 0)
        return err_set(err, -ENOMEM, "no memory for the list of pinned pieces");
    size_t before = b->pins.n;
    for (size_t at = 0; at < bytes; at += PIN_BYTES) {
        Pin pin = {data + at, MIN(PIN_BYTES, bytes - at)};
        cudaError_t e = pin_lock(b, &pin);
        if (e != cudaSuccess) {
            while (b->pins.n > before)
                (void)cudaHostUnregister((void *)b->pins.pin[--b->pins.n].data);
            return err_set(err, pin_errno(e), "pinning %zu of %zu bytes: %s", at + pin.bytes, bytes,
                    cudaGetErrorString(e));
        }
        b->pins.pin[b->pins.n++] = pin;
    }
    return 0;
}

int cuda_pin(Backend *base, const void *data, size_t bytes, Err *err) {
    CudaBackend *b = cuda_backend(base);
    (void)cudaSetDevice(b->device); /* of this thread; fails as the next call does */
    (void)pthread_mutex_lock(&b->lock);
    int r = pins_add(b, data, bytes, err);
    (void)pthread_mutex_unlock(&b->lock);
    return r;
}

void cuda_unpin(Backend *base, const void *data, size_t bytes) {
    CudaBackend *b = cuda_backend(base);
    const char *begin = data, *end = begin + bytes;
    size_t kept = 0;
    (void)cudaDeviceSynchronize(); /* copies may still read from there */
    (void)pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->pins.n; i++) {
        Pin pin = b->pins.pin[i];
        if (pin.data >= begin && pin.data < end)
            (void)cudaHostUnregister((void *)pin.data);
        else
            b->pins.pin[kept++] = pin;
    }
    b->pins.n = kept;
    (void)pthread_mutex_unlock(&b->lock);
    (void)cudaGetLastError();
}

void pins_done(Pins *p) {
    for (size_t i = 0; i < p->n; i++)
        (void)cudaHostUnregister((void *)p->pin[i].data);
    (void)cudaGetLastError();
    free(p->pin);
    *p = (Pins){0};
}

size_t pins_run(CudaBackend *b, const char *data, size_t n, bool *locked) {
    *locked = false;
    (void)pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < b->pins.n; i++) {
        const Pin *pin = &b->pins.pin[i];
        if (data >= pin->data && data < pin->data + pin->bytes) {
            *locked = true;
            n = MIN(n, (size_t)(pin->data + pin->bytes - data));
            break;
        }
        if (pin->data > data && pin->data < data + n)
            n = (size_t)(pin->data - data);
    }
    (void)pthread_mutex_unlock(&b->lock);
    return n;
}
