#include "backend/cuda/cuda-impl.h"
#include "backend/cuda/uploader.h"
#include "base/size.h"

#include <errno.h>
#include <string.h>

/* Between host and device. Memory that the driver has locked is read in place; everything else
 * passes through the ring, a slot of which is free once its event has passed. */

static cudaError_t ring_start(Ring *r) {
    for (int i = 0; i < N_SLOTS && !r->data[N_SLOTS - 1]; i++) {
        cudaError_t e = r->done[i] ? cudaSuccess
                                   : cudaEventCreateWithFlags(&r->done[i], cudaEventDisableTiming);
        if (e == cudaSuccess && !r->data[i])
            e = cudaHostAlloc((void **)&r->data[i], SLOT_BYTES, cudaHostAllocDefault);
        if (e != cudaSuccess)
            return e;
    }
    return cudaSuccess;
}

void ring_done(Ring *r) {
    for (int i = 0; i < N_SLOTS; i++) {
        if (r->done[i])
            (void)cudaEventDestroy(r->done[i]);
        (void)cudaFreeHost(r->data[i]);
    }
    (void)cudaGetLastError();
}

/* The next slot, once nothing uses it. */
static cudaError_t ring_take(Ring *r, unsigned *ret) {
    cudaError_t e = ring_start(r);
    if (e != cudaSuccess)
        return e;
    *ret = r->next++ % N_SLOTS;
    return cudaEventSynchronize(r->done[*ret]);
}

static cudaError_t ring_upload(Stream *s, char *to, const char *from, size_t n) {
    Ring *r = &cuda_stream(s)->ring;
    unsigned slot;
    cudaError_t e = ring_take(r, &slot);
    if (e != cudaSuccess)
        return e;
    memcpy(r->data[slot], from, n);
    cudaStream_t stream = cuda_stream(s)->stream;
    e = cudaMemcpyAsync(to, r->data[slot], n, cudaMemcpyHostToDevice, stream);
    return e == cudaSuccess ? cudaEventRecord(r->done[slot], stream) : e;
}

/* Host bytes that stay as they are until the stream has passed. */
static bool upload_stable(Stream *s, char *to, const char *from, size_t n, const char *op) {
    while (n > 0) {
        bool locked;
        size_t run = pins_run(cuda_backend(s->backend), from, n, &locked);
        cudaError_t e;
        if (locked) {
            e = cudaMemcpyAsync(to, from, run, cudaMemcpyHostToDevice, cuda_stream(s)->stream);
        } else {
            run = MIN(run, SLOT_BYTES);
            e = ring_upload(s, to, from, run);
        }
        if (!cuda_check(s, e, op))
            return false;
        to += run;
        from += run;
        n -= run;
    }
    return true;
}

void cuda_upload(Stream *s, View y, View x) {
    size_t bytes = view_bytes(x);
    for (size_t at = 0; at < bytes; at += SLOT_BYTES)
        if (!cuda_check(s,
                    ring_upload(s, (char *)y.data + at, (const char *)x.data + at,
                            MIN(SLOT_BYTES, bytes - at)),
                    "upload"))
            return;
}

/* One slot fills while the one before is emptied; all bytes are at the host on return. */
void cuda_download(Stream *s, View y, View x) {
    Ring *r = &cuda_stream(s)->ring;
    cudaStream_t stream = cuda_stream(s)->stream;
    size_t bytes = view_bytes(x), ready = 0;
    unsigned slot[2] = {0, 0};
    for (size_t at = 0, i = 0; ready < bytes; at += SLOT_BYTES, i++) {
        cudaError_t e = cudaSuccess;
        if (at < bytes) {
            e = ring_take(r, &slot[i % 2]);
            if (e == cudaSuccess)
                e = cudaMemcpyAsync(r->data[slot[i % 2]], (const char *)x.data + at,
                        MIN(SLOT_BYTES, bytes - at), cudaMemcpyDeviceToHost, stream);
            if (e == cudaSuccess)
                e = cudaEventRecord(r->done[slot[i % 2]], stream);
        }
        if (e == cudaSuccess && i > 0) {
            unsigned full = slot[(i - 1) % 2];
            size_t n = MIN(SLOT_BYTES, bytes - ready);
            e = cudaEventSynchronize(r->done[full]);
            if (e == cudaSuccess)
                memcpy((char *)y.data + ready, r->data[full], n);
            ready += n;
        }
        if (!cuda_check(s, e, "download"))
            return;
    }
}

/* As many rows as fit a slot: gathered there in the table's dtype, converted on the device. */
void cuda_gather_rows(Stream *s, View y, View table, const int32_t *ids) {
    Ring *r = &cuda_stream(s)->ring;
    cudaStream_t stream = cuda_stream(s)->stream;
    size_t row = (size_t)table.dim[1] * dtype_bytes(table.dtype);
    void *scratch = cuda_scratch(s);
    if (!scratch)
        return;
    assert(row <= SLOT_BYTES);
    int64_t at_once = row > 0 ? (int64_t)(SLOT_BYTES / row) : 1;
    for (int64_t first = 0; first < y.dim[0]; first += at_once) {
        int64_t n = MIN(at_once, y.dim[0] - first);
        unsigned slot;
        cudaError_t e = ring_take(r, &slot);
        if (!cuda_check(s, e, "gather_rows"))
            return;
        for (int64_t i = 0; i < n; i++)
            memcpy(r->data[slot] + (size_t)i * row,
                    (const char *)table.data + (size_t)ids[first + i] * row, row);
        e = cudaMemcpyAsync(
                scratch, r->data[slot], (size_t)n * row, cudaMemcpyHostToDevice, stream);
        if (e == cudaSuccess)
            e = cudaEventRecord(r->done[slot], stream);
        if (e == cudaSuccess)
            e = weights_convert(stream, view_rows(y, first, n).data, y.dtype, scratch, table.dtype,
                    n * y.dim[1]);
        if (!cuda_check(s, e, "gather_rows"))
            return;
    }
}

static DType weight_dtype(Backend *b, WeightKind kind) {
    return kind == WEIGHT_VECTOR ? DTYPE_F32 : b->info.activation;
}

size_t cuda_weight_bytes(Backend *b, WeightKind kind, View host) {
    if (kind == WEIGHT_TABLE)
        return 0;
    return (size_t)view_count(host) * dtype_bytes(weight_dtype(b, kind));
}

/* Many bytes that are not locked. */
static bool takes_uploader(Stream *s, const char *from, size_t n) {
    bool locked = true;
    if (n >= UPLOADER_LEAST)
        (void)pins_run(cuda_backend(s->backend), from, n, &locked);
    return !locked;
}

static bool import_bytes(Stream *s, char *to, const char *from, size_t n) {
    if (!takes_uploader(s, from, n))
        return upload_stable(s, to, from, n, "weight_import");
    uploader_run(cuda_backend(s->backend)->uploader, s, &(Span){to, from, n}, 1);
    return stream_is_live(s);
}

/* A convolution's weight, whole outputs at a time through the scratch. */
static void import_conv(Stream *s, View host, View y) {
    int64_t c = host.dim[1], per_output = host.dim[0] > 0 ? view_count(host) / host.dim[0] : 0;
    size_t size = dtype_bytes(host.dtype), bytes = (size_t)per_output * size;
    char *scratch = cuda_scratch(s);
    if (!scratch || bytes == 0)
        return;
    if (bytes > SCRATCH_BYTES) {
        stream_fail(s, -ENOTSUP, "weight_import: a filter of %zu bytes, at most %zu", bytes,
                SCRATCH_BYTES);
        return;
    }
    int64_t at_once = (int64_t)(SCRATCH_BYTES / bytes);
    for (int64_t first = 0; first < host.dim[0]; first += at_once) {
        int64_t n = MIN(at_once, host.dim[0] - first);
        const char *from = (const char *)host.data + (size_t)first * bytes;
        if (!import_bytes(s, scratch, from, (size_t)n * bytes))
            return;
        char *to = (char *)y.data + (size_t)(first * per_output) * dtype_bytes(y.dtype);
        if (!cuda_check(s,
                    weights_pack_conv(cuda_stream(s)->stream, to, y.dtype, scratch, host.dtype, n,
                            c, per_output / c),
                    "weight_import"))
            return;
    }
}

static void import_converted(Stream *s, View host, View y) {
    size_t size = dtype_bytes(host.dtype);
    int64_t count = view_count(host), at_once = (int64_t)(SCRATCH_BYTES / size);
    char *scratch = cuda_scratch(s);
    if (!scratch)
        return;
    for (int64_t first = 0; first < count; first += at_once) {
        int64_t n = MIN(at_once, count - first);
        const char *from = (const char *)host.data + (size_t)first * size;
        if (!import_bytes(s, scratch, from, (size_t)n * size))
            return;
        char *to = (char *)y.data + (size_t)first * dtype_bytes(y.dtype);
        if (!cuda_check(s,
                    weights_convert(cuda_stream(s)->stream, to, y.dtype, scratch, host.dtype, n),
                    "weight_import"))
            return;
    }
}

View cuda_weight_view(Backend *b, WeightKind kind, View host, void *storage) {
    if (kind == WEIGHT_TABLE)
        return host;
    return view_make(storage, weight_dtype(b, kind), host.rank, host.dim);
}

/* Bytes that need no kernel on their way. */
static bool is_plain(Stream *s, const WeightImport *w) {
    return (w->kind == WEIGHT_MATRIX || w->kind == WEIGHT_VECTOR) &&
           weight_dtype(s->backend, w->kind) == w->host.dtype;
}

static void import_one(Stream *s, const WeightImport *w) {
    View y = cuda_weight_view(s->backend, w->kind, w->host, w->storage);
    if (w->kind == WEIGHT_TABLE)
        return;
    if (w->kind == WEIGHT_CONV)
        import_conv(s, w->host, y);
    else if (is_plain(s, w))
        (void)import_bytes(s, w->storage, w->host.data, view_bytes(w->host));
    else
        import_converted(s, w->host, y);
}

/* Vectors that are converted on their way travel together: each alone costs calls, not bytes. */
enum { SMALL_BYTES = 64 << 10 };
static_assert((size_t)WEIGHT_IMPORT_MOST * SMALL_BYTES <= SLOT_BYTES && SLOT_BYTES <= SCRATCH_BYTES,
        "all of them fit a slot and the scratch");

static bool is_small(Stream *s, const WeightImport *w) {
    return w->kind == WEIGHT_VECTOR && !is_plain(s, w) && view_bytes(w->host) <= SMALL_BYTES;
}

static void import_small(Stream *s, const WeightImport *all, size_t n) {
    size_t first = 0;
    while (first < n && !is_small(s, &all[first]))
        first++;
    if (first == n)
        return;
    cudaStream_t stream = cuda_stream(s)->stream;
    Ring *r = &cuda_stream(s)->ring;
    char *scratch = cuda_scratch(s);
    unsigned slot;
    cudaError_t e = scratch ? ring_take(r, &slot) : cudaErrorMemoryAllocation;
    if (!cuda_check(s, e, "weight_import"))
        return;
    size_t at = 0, bytes = 0;
    for (size_t i = first; i < n; i++)
        if (is_small(s, &all[i])) {
            memcpy(r->data[slot] + bytes, all[i].host.data, view_bytes(all[i].host));
            bytes += size_align(view_bytes(all[i].host), STREAM_ALIGNMENT);
        }
    e = cudaMemcpyAsync(scratch, r->data[slot], bytes, cudaMemcpyHostToDevice, stream);
    if (e == cudaSuccess)
        e = cudaEventRecord(r->done[slot], stream);
    for (size_t i = first; i < n && e == cudaSuccess; i++)
        if (is_small(s, &all[i])) {
            e = weights_convert(stream, all[i].storage, weight_dtype(s->backend, all[i].kind),
                    scratch + at, all[i].host.dtype, view_count(all[i].host));
            at += size_align(view_bytes(all[i].host), STREAM_ALIGNMENT);
        }
    (void)cuda_check(s, e, "weight_import");
}

/* All plain ones at once; false when one after the other is as good. */
static bool import_together(Stream *s, const WeightImport *all, size_t n) {
    Span spans[WEIGHT_IMPORT_MOST];
    size_t n_spans = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_plain(s, &all[i]))
            continue;
        spans[n_spans] = (Span){all[i].storage, all[i].host.data, view_bytes(all[i].host)};
        bytes += spans[n_spans++].n;
    }
    if (n_spans == 0 || !takes_uploader(s, spans[0].from, bytes))
        return false;
    uploader_run(cuda_backend(s->backend)->uploader, s, spans, n_spans);
    return true;
}

void cuda_weight_import(Stream *s, const WeightImport *all, size_t n) {
    bool together = import_together(s, all, n);
    if (stream_is_live(s))
        import_small(s, all, n);
    for (size_t i = 0; i < n && stream_is_live(s); i++)
        if (!is_small(s, &all[i]) && !(together && is_plain(s, &all[i])))
            import_one(s, &all[i]);
}
