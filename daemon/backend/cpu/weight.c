#include "backend/cpu/cpu-impl.h"

#include <string.h>

void cpu_widen_row(const Kernels *k, float *y, const void *x, DType dtype, int64_t n) {
    if (dtype == DTYPE_BF16)
        k->widen_bf16(y, x, n);
    else if (dtype == DTYPE_F16)
        k->widen_f16(y, x, n);
    else
        memcpy(y, x, (size_t)n * sizeof(*y));
}

/* Weights in a file may lie at any address. */
static bool is_f32_in_place(View v) {
    return v.dtype == DTYPE_F32 && (uintptr_t)v.data % _Alignof(float) == 0;
}

size_t cpu_weight_bytes(Backend *b, WeightKind kind, View host) {
    switch (kind) {
    case WEIGHT_VECTOR:
        return is_f32_in_place(host) ? 0 : (size_t)view_count(host) * sizeof(float);
    case WEIGHT_CONV:
        return conv_packed_floats(host) * sizeof(float);
    case WEIGHT_MATRIX:
    case WEIGHT_TABLE:
        break;
    }
    return 0;
}

View cpu_weight_view(Backend *b, WeightKind kind, View host, void *storage) {
    if (cpu_weight_bytes(b, kind, host) == 0)
        return host;
    return view_make(storage, DTYPE_F32, host.rank, host.dim);
}

void cpu_weight_import(Stream *s, const WeightImport *all, size_t n) {
    CpuBackend *b = cpu_of(s);
    for (const WeightImport *w = all; w < all + n; w++) {
        if (w->kind == WEIGHT_CONV)
            conv_pack(b, w->storage, w->host);
        else if (w->kind == WEIGHT_VECTOR && !is_f32_in_place(w->host))
            cpu_widen_row(b->kernels, w->storage, w->host.data, w->host.dtype, view_count(w->host));
    }
}
