/* cuda-impl - the structs behind Backend, Stream, Memory and Event of this implementation.
 *
 * A stream with its ring and scratch belongs to one thread at a time: weights are loaded on a
 * stream and a thread of their own while the worker computes on its. What streams share is under
 * `lock`, or `Lt`, which is the worker's. */
#ifndef PREHEAT_BACKEND_CUDA_CUDA_IMPL_H
#define PREHEAT_BACKEND_CUDA_CUDA_IMPL_H

#include "backend/cuda/driver.h"
#include "backend/interface.h"

#include <cuda_runtime_api.h>
#include <pthread.h>

typedef struct Lt Lt;             /* lt.h */
typedef struct Uploader Uploader; /* uploader.h */

/* Host bytes that the driver has page-locked, in pieces below the size at which it makes its page
 * list under a global lock (512 MiB); a copy must not cross from one piece into the next. */
typedef struct Pin {
    const char *data;
    size_t bytes;
} Pin;
typedef struct Pins {
    Pin *pin;
    size_t n, room;
} Pins;

/* Page-locked slots that copies from and to unpinned memory pass through. */
enum { N_SLOTS = 4 };
typedef struct Ring {
    char *data[N_SLOTS]; /* NULL until the first copy */
    cudaEvent_t done[N_SLOTS];
    unsigned next;
} Ring;
#define SLOT_BYTES ((size_t)4 << 20)

typedef struct CudaBackend {
    Backend base;
    Driver driver;
    int device;
    bool read_only_pins; /* the driver locks mappings that are read-only */
    bool exact;          /* BackendOptions.exact_f32 */
    bool portable;       /* ISA_PORTABLE: no kernels for one generation of cards */
    bool hopper; /* compute capability 9.0, a driver that makes tensor maps, and not portable */
    pthread_mutex_t lock; /* `used` and `pins` */
    uint64_t limit, used; /* bytes in memory_new() */
    size_t granularity;
    CUmemAllocationProp place;
    Pins pins;
    Lt *lt;             /* NULL with exact_f32 */
    Uploader *uploader; /* of weights that are not locked */
} CudaBackend;

/* Scratch of a stream, taken at its first use: converted weights in passing, rounded biases, summed
 * filters. Each op uses it from the start; the stream's order keeps them apart. */
#define SCRATCH_BYTES ((size_t)48 << 20)

typedef struct CudaStream {
    Stream base;
    cudaStream_t stream;
    Ring ring;
    Memory *scratch;
} CudaStream;

typedef struct CudaMemory {
    Memory base;
    CUmemGenericAllocationHandle handle;
    size_t mapped; /* bytes, a multiple of the granularity */
} CudaMemory;

typedef struct CudaEvent {
    Event base;
    cudaEvent_t event;
} CudaEvent;

static inline CudaBackend *cuda_backend(Backend *b) {
    return CONTAINER_OF(b, CudaBackend, base);
}
static inline CudaStream *cuda_stream(Stream *s) {
    return CONTAINER_OF(s, CudaStream, base);
}

/* memory.c */
uint64_t cuda_memory_free_bytes(Backend *b);
int cuda_memory_new(Backend *b, size_t bytes, Memory **ret, Err *err);
void cuda_memory_free(Memory *m);
int cuda_memory_export(Memory *m, int *ret_fd, Err *err);
int cuda_memory_import(Backend *b, int fd, size_t bytes, Memory **ret, Err *err);
int cuda_pin(Backend *b, const void *data, size_t bytes, Err *err);
void cuda_unpin(Backend *b, const void *data, size_t bytes);
void pins_done(Pins *p);

/* pins_run - how many of the n bytes at data can be copied at once: *locked tells how. */
size_t pins_run(CudaBackend *b, const char *data, size_t n, bool *locked);

/* transfer.c */
void cuda_upload(Stream *s, View y, View x);
void cuda_download(Stream *s, View y, View x);
void cuda_gather_rows(Stream *s, View y, View table, const int32_t *ids);
size_t cuda_weight_bytes(Backend *b, WeightKind kind, View host);
void cuda_weight_import(Stream *s, const WeightImport *all, size_t n);
View cuda_weight_view(Backend *b, WeightKind kind, View host, void *storage);
void ring_done(Ring *r);

/* stream.c */
int cuda_stream_new(Backend *b, Stream **ret, Err *err);
void cuda_stream_free(Stream *s);
int cuda_stream_sync(Stream *s, Err *err);
int cuda_event_new(Backend *b, Event **ret, Err *err);
void cuda_event_free(Event *e);
void cuda_record(Stream *s, Event *e);
void cuda_wait(Stream *s, Event *e);

/* cuda_check - fails the stream in the op's name unless e is cudaSuccess; true on success. */
bool cuda_check(Stream *s, cudaError_t e, const char *op);

/* cuda_scratch - SCRATCH_BYTES of device memory; NULL, with the stream failed, if there is none. */
void *cuda_scratch(Stream *s);

/* ops.c: fills the computing entries of the table. */
void cuda_ops_fill(BackendOps *ops);

/* linear.c */
void cuda_linear(Stream *s, View y, View x, View w, View bias, Activation act);
void cuda_conv(Stream *s, const ConvArgs *a);

#endif
