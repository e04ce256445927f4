/* interface - what an implementation of a backend fills in. Users include backend.h, stream.h and
 * ops.h.
 *
 * Checked downcasts: an implementation embeds Backend, Memory, Event and Stream as the first member
 * of its own structs. Table functions get arguments that ops.c has asserted and are not called on
 * failed or planning streams; they report through stream_fail(). */
#ifndef PREHEAT_BACKEND_INTERFACE_H
#define PREHEAT_BACKEND_INTERFACE_H

#include "backend/ops.h"

#include <errno.h>

enum { BACKEND_ABI = 4, STREAM_ALIGNMENT = 256 };

typedef struct BackendOps BackendOps;

struct BackendModule {
    uint32_t abi; /* BACKEND_ABI */
    const char *name;
    int (*open)(const BackendOptions *options, Backend **ret, Err *err);
};

struct Backend {
    const BackendOps *ops;
    BackendInfo info;
};

struct Memory {
    Backend *backend;
    void *data;
    size_t bytes;
};

struct Event {
    Backend *backend;
};

struct Stream {
    Backend *backend;
    bool planning;
    bool hurried;                 /* stream_hurry() */
    Memory *workspace;            /* NULL when planning or empty */
    size_t used, top, peak, size; /* bytes in use at the start and at the end; most; all */
    Err err;                      /* the first failure */
    const atomic_bool *stop;      /* stream_stop_on(); NULL: never */
};

struct BackendOps {
    void (*free)(Backend *b);
    uint64_t (*memory_free_bytes)(Backend *b);
    int (*memory_new)(Backend *b, size_t bytes, Memory **ret, Err *err);
    void (*memory_free)(Memory *m);
    int (*memory_export)(Memory *m, int *ret_fd, Err *err);
    int (*memory_import)(Backend *b, int fd, size_t bytes, Memory **ret, Err *err);
    int (*pin)(Backend *b, const void *data, size_t bytes, Err *err);
    void (*unpin)(Backend *b, const void *data, size_t bytes);
    size_t (*weight_bytes)(Backend *b, WeightKind kind, View host);
    void (*weight_import)(Stream *s, const WeightImport *all, size_t n);
    View (*weight_view)(Backend *b, WeightKind kind, View host, void *storage);

    int (*stream_new)(
            Backend *b, Stream **ret, Err *err); /* sets its own fields; the rest is zero */
    void (*stream_free)(Stream *s);
    int (*stream_sync)(Stream *s, Err *err);
    void (*upload)(Stream *s, View y, View x);
    void (*download)(Stream *s, View y, View x);
    int (*event_new)(Backend *b, Event **ret, Err *err);
    void (*event_free)(Event *e);
    void (*record)(Stream *s, Event *e);
    void (*wait)(Stream *s, Event *e);

    void (*copy)(Stream *s, View y, View x);
    void (*fill)(Stream *s, View y, float value);
    void (*linear)(Stream *s, View y, View x, View w, View bias, Activation act);
    void (*geglu)(Stream *s, View y, View gate, View up);
    void (*act)(Stream *s, View y, View x, Activation act);
    void (*rms_norm)(Stream *s, View y, View x, View w, float eps);
    void (*layer_norm)(Stream *s, View y, View x, View w, View bias, float eps);
    void (*norm_modulate)(Stream *s, View y, View x, View shift, View scale, float eps);
    void (*add)(Stream *s, View x, View h);
    void (*add_gated)(Stream *s, View x, View h, View gate);
    void (*norm_rope)(Stream *s, View y, View x, View w, View rope, int64_t n_heads, float eps);
    void (*attention)(Stream *s, const AttentionArgs *a);
    void (*conv)(Stream *s, const ConvArgs *a);
    void (*vae_norm)(Stream *s, View y, View x, View gamma, Activation act);
    void (*avg_down_add)(Stream *s, View y, View x, int ft, int fs);
    void (*dup_up_add)(Stream *s, View y, View x, int ft, int fs);
    void (*patchify)(Stream *s, View y, View x, int p);
    void (*unpatchify)(Stream *s, View y, View x, int p);
    void (*lincomb)(Stream *s, View y, int n, const View x[], const float a[]);
    void (*gather_rows)(Stream *s, View y, View table, const int32_t *ids);
    void (*to_channels_last)(Stream *s, View y, View x, View scale, View shift);
    void (*to_channels_first)(Stream *s, View y, View x, View scale, View shift);
    void (*vae_patchify)(Stream *s, View y, View x, int p);
    void (*vae_unpatchify)(Stream *s, View y, View x, int p);
    void (*count_nonfinite)(Stream *s, View y, View x);
};

/* stream_is_live - false on a planning or failed stream: the op does nothing. One that is to stop
 * fails here. */
static inline bool stream_is_live(Stream *s) {
    if (s->stop && atomic_load_explicit(s->stop, memory_order_relaxed))
        stream_fail(s, -ECANCELED, "the work was cancelled");
    return !s->planning && s->err.code == 0;
}

#endif
