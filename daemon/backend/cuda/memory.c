#include "backend/cuda/cuda-impl.h"
#include "base/cleanup.h"
#include "base/size.h"

#include <errno.h>

#define PIN_BYTES ((size_t)256 << 20)

uint64_t cuda_memory_free_bytes(Backend *base) {
    CudaBackend *b = cuda_backend(base);
    size_t free_bytes, total;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    if (b->limit == 0)
        return free_bytes;
    uint64_t left = b->limit > b->used ? b->limit - b->used : 0;
    return MIN((uint64_t)free_bytes, left);
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

static int memory_map(CudaBackend *b, CudaMemory *m, Err *err) {
    const Driver *d = &b->driver;
    CUdeviceptr address;
    CUresult e = d->create(&m->handle, m->mapped, &b->place, 0);
    if (e != CUDA_SUCCESS) {
        m->handle = 0;
        return driver_error(d, e, "cuMemCreate", err);
    }
    e = d->reserve(&address, m->mapped, 0, 0, 0);
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

int cuda_memory_new(Backend *base, size_t bytes, Memory **ret, Err *err) {
    CudaBackend *b = cuda_backend(base);
    uint64_t sum;
    if (!size_add(bytes, b->granularity - 1, &sum))
        return err_set(
                err, -ENOMEM, "%zu bytes of device memory are more than can be addressed", bytes);
    size_t mapped = size_align(MAX(bytes, (size_t)1), b->granularity);
    if (b->limit > 0 && (b->used > b->limit || mapped > b->limit - b->used))
        return err_set(err, -ENOMEM,
                "%zu bytes of device memory wanted, %llu in use, the limit is %llu", mapped,
                (unsigned long long)b->used, (unsigned long long)b->limit);
    _cleanup_free_ CudaMemory *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, -ENOMEM, "no memory for a block's record");
    m->base = (Memory){.backend = base, .bytes = bytes};
    m->mapped = mapped;
    int r = memory_map(b, m, err);
    if (r < 0)
        return err_prefix(err, r, "%zu bytes of device memory", mapped);
    b->used += mapped;
    *ret = &TAKE_PTR(m)->base;
    return 0;
}

void cuda_memory_free(Memory *base) {
    CudaMemory *m = CONTAINER_OF(base, CudaMemory, base);
    CudaBackend *b = cuda_backend(base->backend);
    /* Queued work may still use it. A lost device is told where it matters, at stream_finish(). */
    (void)cudaDeviceSynchronize();
    (void)cudaGetLastError();
    memory_unmap(b, m, true);
    b->used -= m->mapped;
    free(m);
}

static int pins_reserve(Pins *p, size_t more) {
    if (p->n + more <= p->room)
        return 0;
    size_t room = 2 * p->room + more;
    struct Pin *pin = realloc(p->pin, room * sizeof(*pin));
    if (!pin)
        return -ENOMEM;
    p->pin = pin;
    p->room = room;
    return 0;
}

/* Read-only mappings need the flag; where the device cannot take it, they cannot be pinned. */
static cudaError_t pin_piece(int device, const void *data, size_t bytes) {
    int read_only = 0;
    cudaError_t e =
            cudaDeviceGetAttribute(&read_only, cudaDevAttrHostRegisterReadOnlySupported, device);
    if (e != cudaSuccess)
        return e;
    unsigned flags = cudaHostRegisterDefault | (read_only ? cudaHostRegisterReadOnly : 0);
    return cudaHostRegister((void *)data, bytes, flags);
}

/* What the caller may go on without; a device that is lost shows at the next stream_finish(). */
static int pin_errno(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? -ENOMEM
           : e == cudaErrorNotPermitted   ? -EPERM
                                          : -ENOTSUP;
}

int cuda_pin(Backend *base, const void *data, size_t bytes, Err *err) {
    CudaBackend *b = cuda_backend(base);
    size_t before = b->pins.n;
    if (pins_reserve(&b->pins, bytes / PIN_BYTES + 1) < 0)
        return err_set(err, -ENOMEM, "no memory for the list of pinned pieces");
    for (size_t at = 0; at < bytes; at += PIN_BYTES) {
        const char *piece = (const char *)data + at;
        size_t n = MIN(PIN_BYTES, bytes - at);
        cudaError_t e = pin_piece(b->device, piece, n);
        if (e != cudaSuccess) {
            while (b->pins.n > before)
                (void)cudaHostUnregister((void *)b->pins.pin[--b->pins.n].data);
            (void)cudaGetLastError(); /* sticky: the next launch check would find it */
            return err_set(err, pin_errno(e), "pinning %zu of %zu bytes: %s", at + n, bytes,
                    cudaGetErrorString(e));
        }
        b->pins.pin[b->pins.n++] = (struct Pin){piece, n};
    }
    return 0;
}

void cuda_unpin(Backend *base, const void *data, size_t bytes) {
    CudaBackend *b = cuda_backend(base);
    const char *begin = data, *end = begin + bytes;
    size_t kept = 0;
    (void)cudaDeviceSynchronize(); /* copies may still read from there */
    for (size_t i = 0; i < b->pins.n; i++) {
        struct Pin pin = b->pins.pin[i];
        if (pin.data >= begin && pin.data < end)
            (void)cudaHostUnregister((void *)pin.data);
        else
            b->pins.pin[kept++] = pin;
    }
    b->pins.n = kept;
    (void)cudaGetLastError();
}

void pins_done(Pins *p) {
    for (size_t i = 0; i < p->n; i++)
        (void)cudaHostUnregister((void *)p->pin[i].data);
    (void)cudaGetLastError();
    free(p->pin);
    *p = (Pins){0};
}

size_t pins_run(const Pins *p, const char *data, size_t n, bool *pinned) {
    *pinned = false;
    for (size_t i = 0; i < p->n; i++) {
        const struct Pin *pin = &p->pin[i];
        if (data >= pin->data && data < pin->data + pin->bytes) {
            *pinned = true;
            return MIN(n, (size_t)(pin->data + pin->bytes - data));
        }
        if (pin->data > data && pin->data < data + n)
            n = (size_t)(pin->data - data);
    }
    return n;
}
