#include "backend/cpu/module.h"

#include "backend/cpu/cpu-impl.h"
#include "base/cleanup.h"
#include "base/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void cpu_free(Backend *base) {
    CpuBackend *b = CONTAINER_OF(base, CpuBackend, base);
    for (int i = 0; b->scratch && i < pool_size(b->pool); i++)
        free(b->scratch[i].data);
    free(b->scratch);
    pool_free(b->pool);
    free(b);
}

static float *floats_new(size_t n) {
    return aligned_alloc(64, size_align(n * sizeof(float), 64));
}

typedef struct Growth {
    CpuBackend *b;
    size_t floats; /* wanted */
    bool failed;
} Growth;

static void grow_scratch(void *context, int64_t begin, int64_t end, int worker) {
    Growth *g = context;
    for (int i = 0; i < pool_size(g->b->pool); i++) {
        Scratch *scratch = &g->b->scratch[i];
        if (scratch->floats >= g->floats)
            continue;
        float *data = floats_new(g->floats);
        if (!data) {
            g->failed = true;
            return;
        }
        free(scratch->data);
        *scratch = (Scratch){data, g->floats};
    }
}

/* As a loop of one item, for no other loop runs beside it: another stream's may be using what goes.
 */
bool scratch_reserve(Stream *s, size_t floats, const char *op) {
    Growth g = {.b = cpu_of(s), .floats = floats};
    pool_for(g.b->pool, 1, 1, grow_scratch, &g);
    if (g.failed)
        stream_fail(s, -ENOMEM, "%s: no memory for %zu bytes a thread", op, floats * sizeof(float));
    return !g.failed;
}

void cpu_for_rows(CpuBackend *b, int64_t n, int64_t n_elements, PoolFunc *func, void *context) {
    int64_t grain = GRAIN_ELEMENTS / MAX(n_elements, (int64_t)1);
    pool_for(b->pool, n, MAX(grain, (int64_t)1), func, context);
}

static int cpu_pin(Backend *b, const void *data, size_t bytes, Err *err) {
    return 0; /* the CPU reads all of its memory at full speed */
}

static void cpu_unpin(Backend *b, const void *data, size_t bytes) {}

static int cpu_stream_new(Backend *b, Stream **ret, Err *err) {
    Stream *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, -ENOMEM, "no memory for a stream");
    *ret = s;
    return 0;
}

static void cpu_stream_free(Stream *s) {
    free(s);
}

static int cpu_stream_sync(Stream *s, Err *err) {
    return 0;
}

static void cpu_transfer(Stream *s, View y, View x) {
    if (view_bytes(x) > 0)
        memcpy(y.data, x.data, view_bytes(x));
}

static int cpu_event_new(Backend *b, Event **ret, Err *err) {
    Event *e = calloc(1, sizeof(*e));
    if (!e)
        return err_set(err, -ENOMEM, "no memory for an event");
    *ret = e;
    return 0;
}

static void cpu_event_free(Event *e) {
    free(e);
}

static void cpu_event_pass(Stream *s, Event *e) {}

static const BackendOps cpu_ops = {
        .free = cpu_free,
        .memory_free_bytes = cpu_memory_free_bytes,
        .memory_new = cpu_memory_new,
        .memory_free = cpu_memory_free,
        .memory_export = cpu_memory_export,
        .memory_import = cpu_memory_import,
        .pin = cpu_pin,
        .unpin = cpu_unpin,
        .weight_bytes = cpu_weight_bytes,
        .weight_import = cpu_weight_import,
        .weight_view = cpu_weight_view,
        .stream_new = cpu_stream_new,
        .stream_free = cpu_stream_free,
        .stream_sync = cpu_stream_sync,
        .upload = cpu_transfer,
        .download = cpu_transfer,
        .event_new = cpu_event_new,
        .event_free = cpu_event_free,
        .record = cpu_event_pass,
        .wait = cpu_event_pass,
        .copy = cpu_copy,
        .fill = cpu_fill,
        .linear = cpu_linear,
        .geglu = cpu_geglu,
        .act = cpu_act,
        .rms_norm = cpu_rms_norm,
        .layer_norm = cpu_layer_norm,
        .norm_modulate = cpu_norm_modulate,
        .add = cpu_add,
        .add_gated = cpu_add_gated,
        .norm_rope = cpu_norm_rope,
        .attention = cpu_attention,
        .conv = cpu_conv,
        .vae_norm = cpu_vae_norm,
        .avg_down_add = cpu_avg_down_add,
        .dup_up_add = cpu_dup_up_add,
        .patchify = cpu_patchify,
        .unpatchify = cpu_unpatchify,
        .lincomb = cpu_lincomb,
        .gather_rows = cpu_gather_rows,
        .to_channels_last = cpu_to_channels_last,
        .to_channels_first = cpu_to_channels_first,
        .vae_patchify = cpu_vae_patchify,
        .vae_unpatchify = cpu_vae_unpatchify,
        .count_nonfinite = cpu_count_nonfinite,
};

static void describe(CpuBackend *b) {
    BackendInfo *info = &b->base.info;
    *info = (BackendInfo){.name = "cpu", .activation = DTYPE_F32};
    int n = pool_size(b->pool);
    (void)snprintf(info->device, sizeof(info->device), "%d %s, %s", n,
            n == 1 ? "thread" : "threads", b->kernels->name);
}

DEFINE_CLEANUP(Backend, backend_free)

static int cpu_open(const BackendOptions *options, Backend **ret, Err *err) {
    const Kernels *kernels = kernels_find(options->isa);
    if (!kernels)
        return err_set(err, -ENOTSUP, "this CPU, or this build, has not the instruction set %d",
                (int)options->isa);
    CpuBackend *b = calloc(1, sizeof(*b));
    if (!b)
        return err_set(err, -ENOMEM, "no memory for a backend");
    b->base.ops = &cpu_ops;
    b->kernels = kernels;
    b->memory_limit = options->memory_limit;
    b->exportable = options->exportable;
    int r = pool_new(options->n_threads, &b->pool, err);
    if (r < 0) {
        free(b);
        return r;
    }
    _cleanup_(backend_freep) Backend *owner = &b->base;
    b->scratch = calloc((size_t)pool_size(b->pool), sizeof(b->scratch[0]));
    if (!b->scratch)
        return err_set(err, -ENOMEM, "no memory for %d threads", pool_size(b->pool));
    for (int i = 0; i < pool_size(b->pool); i++) {
        b->scratch[i] = (Scratch){floats_new(SCRATCH_FLOATS), SCRATCH_FLOATS};
        if (!b->scratch[i].data)
            return err_set(err, -ENOMEM, "no memory for %zu bytes a thread",
                    SCRATCH_FLOATS * sizeof(float));
    }
    describe(b);
    *ret = TAKE_PTR(owner);
    return 0;
}

const BackendModule backend_cpu = {.abi = BACKEND_ABI, .name = "cpu", .open = cpu_open};
