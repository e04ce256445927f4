/* cpu-impl - what the files of the CPU backend share: the backend's state and the ops' names. */
#ifndef PREHEAT_BACKEND_CPU_IMPL_H
#define PREHEAT_BACKEND_CPU_IMPL_H

#include "backend/cpu/kernels.h"
#include "backend/interface.h"
#include "base/pool.h"

enum {
    SCRATCH_FLOATS = 256 * 1024, /* of each thread: half of a usual second-level cache and up */
    GRAIN_ELEMENTS = 32 * 1024,  /* of simple work, 10 us, that waking another thread pays for */
    MACS_AN_ELEMENT = 32,        /* multiply-adds of a product in the time of an element */
};

typedef struct Scratch {
    float *data; /* aligned to a cache line */
    size_t floats;
} Scratch;

/* Streams run each op before the call returns, so a stream has no state and events are empty. */
typedef struct CpuBackend {
    Backend base;
    const Kernels *kernels;
    Pool *pool;
    uint64_t memory_limit;        /* bytes; 0: none */
    bool exportable;              /* memory_new() takes memory that has a descriptor */
    _Atomic uint64_t memory_used; /* relaxed: a sum, nothing is published by it */
    Scratch *scratch;             /* [pool_size], private to the thread while a loop runs */
} CpuBackend;

static inline CpuBackend *cpu_of(const Stream *s) {
    return CONTAINER_OF(s->backend, CpuBackend, base);
}

/* scratch_reserve - at least that many floats for each thread; they keep what they have. Grows only
 * past SCRATCH_FLOATS. False when it failed, and the stream with it. Not inside a loop. */
bool scratch_reserve(Stream *s, size_t floats, const char *op);

/* cpu_for_rows - pool_for() with a grain that suits n rows of n_elements each. */
void cpu_for_rows(CpuBackend *b, int64_t n, int64_t n_elements, PoolFunc *func, void *context);

static inline float *view_f32(View v) {
    dassert(v.dtype == DTYPE_F32);
    return v.data;
}

/* cpu_widen_row - n elements of x, F32, BF16 or F16 of any alignment, to f32. */
void cpu_widen_row(const Kernels *k, float *y, const void *x, DType dtype, int64_t n);

/* conv_packed_floats - size of a packed weight: [c_out / MMA_BLOCK][kt kh][kw][c_in][MMA_BLOCK],
 * the last block filled up with zeros. */
size_t conv_packed_floats(View w);
void conv_pack(CpuBackend *b, float *packed, View w);

size_t cpu_weight_bytes(Backend *b, WeightKind kind, View host);
void cpu_weight_import(Stream *s, const WeightImport *all, size_t n);
View cpu_weight_view(Backend *b, WeightKind kind, View host, void *storage);

/* memory.c */
uint64_t cpu_memory_free_bytes(Backend *base);
int cpu_memory_new(Backend *base, size_t bytes, Memory **ret, Err *err);
void cpu_memory_free(Memory *base);
int cpu_memory_export(Memory *base, int *ret_fd, Err *err);
int cpu_memory_import(Backend *base, int fd, size_t bytes, Memory **ret, Err *err);

void cpu_copy(Stream *s, View y, View x);
void cpu_fill(Stream *s, View y, float value);
void cpu_geglu(Stream *s, View y, View gate, View up);
void cpu_act(Stream *s, View y, View x, Activation act);
void cpu_add(Stream *s, View x, View h);
void cpu_add_gated(Stream *s, View x, View h, View gate);
void cpu_lincomb(Stream *s, View y, int n, const View x[], const float a[]);
void cpu_count_nonfinite(Stream *s, View y, View x);
void cpu_gather_rows(Stream *s, View y, View table, const int32_t *ids);

void cpu_rms_norm(Stream *s, View y, View x, View w, float eps);
void cpu_layer_norm(Stream *s, View y, View x, View w, View bias, float eps);
void cpu_norm_modulate(Stream *s, View y, View x, View shift, View scale, float eps);
void cpu_norm_rope(Stream *s, View y, View x, View w, View rope, int64_t n_heads, float eps);
void cpu_vae_norm(Stream *s, View y, View x, View gamma, Activation act);

void cpu_linear(Stream *s, View y, View x, View w, View bias, Activation act);
void cpu_attention(Stream *s, const AttentionArgs *a);
void cpu_conv(Stream *s, const ConvArgs *a);

void cpu_avg_down_add(Stream *s, View y, View x, int ft, int fs);
void cpu_dup_up_add(Stream *s, View y, View x, int ft, int fs);
void cpu_patchify(Stream *s, View y, View x, int p);
void cpu_unpatchify(Stream *s, View y, View x, int p);
void cpu_to_channels_last(Stream *s, View y, View x, View scale, View shift);
void cpu_to_channels_first(Stream *s, View y, View x, View scale, View shift);
void cpu_vae_patchify(Stream *s, View y, View x, int p);
void cpu_vae_unpatchify(Stream *s, View y, View x, int p);

#endif
