/* backend - one device that holds tensors and computes on them, chosen at run time.
 *
 * Any thread may call; each stream and each object is used by one thread at a time. Calls fail with
 * -ENODEV (no device or no driver), -ENOMEM (device memory), -EIO (the device is lost: the backend
 * can only be freed). Implementations: backend/cpu (linked in), backend/cuda (a module with one
 * symbol, loaded on demand). Implementers include backend/interface.h. */
#ifndef PREHEAT_BACKEND_BACKEND_H
#define PREHEAT_BACKEND_BACKEND_H

#include "base/err.h"
#include "tensor/view.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct Backend Backend;
typedef struct BackendModule BackendModule;
typedef struct Memory Memory;
typedef struct Event Event;
typedef struct Stream Stream;

/* Instruction sets of the CPU backend's kernels; a GPU's kernels for any card are ISA_PORTABLE. */
typedef enum Isa { ISA_BEST, ISA_PORTABLE, ISA_AVX2, ISA_AVX512 } Isa;

typedef struct BackendOptions {
    int n_threads;         /* CPU threads; 0: as many as the process may run on */
    int device;            /* device number where there are several */
    uint64_t memory_limit; /* bytes of device memory to stay under; 0: no limit but the device's */
    bool exact_f32;        /* f32 activations and products where the default is narrower */
    Isa isa; /* for tests: these kernels and no others; -ENOTSUP where the CPU has them not */
    bool exportable; /* memory_export() is to work where that has a price */
} BackendOptions;

typedef struct BackendInfo {
    const char *name;      /* "cpu", "cuda" */
    char device[96];       /* as the vendor names it */
    DType activation;      /* dtype of activations that model code allocates */
    uint64_t memory_total; /* device memory, bytes; 0 where it is the host's */
    bool fast_unpinned;    /* importing unpinned weights takes no longer than pinning them */
    uint8_t uuid[16];      /* of the device, the same in every process; zeros on the CPU */
} BackendInfo;

/* backend_load - opens the shared object and takes its one symbol, `preheat_backend`.
 *
 * Loading it starts no driver. Returns 0; -ENOENT, -ELIBACC, or -EPROTO when it was built for
 * another version of the contract. The module stays loaded until the process ends. */
int backend_load(const char *path, const BackendModule **ret, Err *err);

int backend_open(const BackendModule *m, const BackendOptions *options, Backend **ret, Err *err);
Backend *backend_free(Backend *b);
const BackendInfo *backend_info(const Backend *b);

/* backend_memory_free - bytes that memory_new() could get at this moment, under the limit. */
uint64_t backend_memory_free(Backend *b);

/* memory_new - device memory for weights, outside any stream's workspace; not zeroed. */
int memory_new(Backend *b, size_t bytes, Memory **ret, Err *err);
Memory *memory_free(Memory *m);
void *memory_data(const Memory *m);   /* device address, aligned to 256 bytes or more */
size_t memory_bytes(const Memory *m); /* as given to memory_new() */

/* memory_export - a descriptor that keeps the memory and its contents until it is closed, whatever
 * becomes of this process and its device; the caller's, close-on-exec.
 *
 * Returns 0; -ENOTSUP where device or driver cannot, and on a CPU that was opened without
 * `exportable`; -EMFILE. */
int memory_export(Memory *m, int *ret_fd, Err *err);

/* memory_import - the memory behind a descriptor of memory_export(), of any process on this device.
 * The contents are as they were; both sides write to the same bytes.
 *
 *   fd     stays the caller's, and may be closed once this has returned
 *   bytes  that memory_new() had been given
 *
 * Returns 0; -EBADMSG for a descriptor of another kind or memory of another size, where that can be
 * told; -ENOTSUP; -ENOMEM. */
int memory_import(Backend *b, int fd, size_t bytes, Memory **ret, Err *err);

/* backend_pin, backend_unpin - host bytes (page-aligned) that streams will read from at full speed.
 * Works in pieces; read-only mappings are allowed. Pinning is an optimisation: -ENOTSUP, -ENOMEM
 * and -EPERM may be ignored by the caller. */
int backend_pin(Backend *b, const void *data, size_t bytes, Err *err);
void backend_unpin(Backend *b, const void *data, size_t bytes);

/* How a weight is used, hence how a backend may keep it. */
typedef enum WeightKind {
    WEIGHT_VECTOR, /* norm weights, biases, modulation tables: becomes f32 of the same shape */
    WEIGHT_MATRIX, /* [out, in] of op_linear */
    WEIGHT_CONV, /* [out, in, kt, kh, kw] or [out, in, kh, kw] of op_conv: own packing, same extents
                  */
    WEIGHT_TABLE, /* [rows, dim] of op_gather_rows: stays in host memory */
} WeightKind;

/* weight_bytes - device memory that weight_import() needs for it; 0 when it uses the host's bytes.
 */
size_t weight_bytes(Backend *b, WeightKind kind, View host);

/* weight_import - makes weights usable by ops; converts and packs on the device, in stream order.
 *
 *   host     dense, F32, BF16 or F16, in host memory; must stay as it is until the stream has
 *            passed, and for ever where weight_bytes() is 0 or the kind is WEIGHT_TABLE
 *   storage  weight_bytes() bytes of device memory, aligned to 256 bytes
 *
 * All n, at most WEIGHT_IMPORT_MOST, may travel side by side. */
enum { WEIGHT_IMPORT_MOST = 64 };
typedef struct WeightImport {
    WeightKind kind;
    View host;
    void *storage;
} WeightImport;
void weight_import(Stream *s, const WeightImport *all, size_t n);

/* weight_view - what to pass to ops once the weight is imported, with host's extents; touches no
 * byte. Storage that holds what an earlier import of the same weight wrote, by the same build, can
 * be used. */
View weight_view(Backend *b, WeightKind kind, View host, void *storage);

#endif
