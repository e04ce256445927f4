#include "backend/cuda/cuda-impl.h"
#include "base/cleanup.h"

#include <errno.h>

int cuda_stream_new(Backend *b, Stream **ret, Err *err) {
    _cleanup_free_ CudaStream *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, -ENOMEM, "no memory for a stream");
    (void)cudaSetDevice(cuda_backend(b)->device); /* of this thread; fails as the next call does */
    cudaError_t e = cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking);
    if (e != cudaSuccess)
        return cuda_error(e, "cudaStreamCreate", err);
    s->base.backend = b;
    *ret = &TAKE_PTR(s)->base;
    return 0;
}

void cuda_stream_free(Stream *base) {
    CudaStream *s = cuda_stream(base);
    (void)cudaStreamSynchronize(s->stream);
    (void)cudaStreamDestroy(s->stream);
    ring_done(&s->ring);
    memory_free(s->scratch);
    free(s);
}

int cuda_stream_sync(Stream *s, Err *err) {
    cudaError_t e = cudaStreamSynchronize(cuda_stream(s)->stream);
    return e == cudaSuccess ? 0 : cuda_error(e, "waiting for the device", err);
}

int cuda_event_new(Backend *b, Event **ret, Err *err) {
    _cleanup_free_ CudaEvent *e = calloc(1, sizeof(*e));
    if (!e)
        return err_set(err, -ENOMEM, "no memory for an event");
    cudaError_t code = cudaEventCreateWithFlags(&e->event, cudaEventDisableTiming);
    if (code != cudaSuccess)
        return cuda_error(code, "cudaEventCreate", err);
    *ret = &TAKE_PTR(e)->base;
    return 0;
}

void cuda_event_free(Event *base) {
    CudaEvent *e = CONTAINER_OF(base, CudaEvent, base);
    (void)cudaEventDestroy(e->event);
    free(e);
}

void cuda_record(Stream *s, Event *e) {
    (void)cuda_check(s,
            cudaEventRecord(CONTAINER_OF(e, CudaEvent, base)->event, cuda_stream(s)->stream),
            "record");
}

void cuda_wait(Stream *s, Event *e) {
    (void)cuda_check(s,
            cudaStreamWaitEvent(cuda_stream(s)->stream, CONTAINER_OF(e, CudaEvent, base)->event, 0),
            "wait");
}

bool cuda_check(Stream *s, cudaError_t e, const char *op) {
    if (e == cudaSuccess)
        return true;
    (void)cudaGetLastError();
    stream_fail(s, cuda_errno(e), "%s: %s", op, cudaGetErrorString(e));
    return false;
}

void *cuda_scratch(Stream *base) {
    CudaStream *s = cuda_stream(base);
    if (!s->scratch) {
        Err err = {0};
        int r = memory_new(base->backend, SCRATCH_BYTES, &s->scratch, &err);
        if (r < 0) {
            stream_fail(base, r, "scratch memory: %s", err_text(&err));
            return NULL;
        }
    }
    return memory_data(s->scratch);
}
