#include "backend/cpu/cpu-impl.h"

typedef struct NormJob {
    const Kernels *kernels;
    View y, x;
    const float *w, *bias; /* bias: shift of norm_modulate, w its scale */
    const float *rope;
    int64_t head_dim;
    float eps;
    Activation act;
} NormJob;

static float *y_row(const NormJob *j, int64_t i) {
    return view_f32(j->y) + i * j->y.stride[0];
}

static const float *x_row(const NormJob *j, int64_t i) {
    return view_f32(j->x) + i * j->x.stride[0];
}

static void rms_norm_rows(void *context, int64_t begin, int64_t end, int worker) {
    const NormJob *j = context;
    for (int64_t i = begin; i < end; i++)
        j->kernels->rms_norm(y_row(j, i), x_row(j, i), j->w, j->x.dim[1], j->eps);
}

void cpu_rms_norm(Stream *s, View y, View x, View w, float eps) {
    NormJob j = {.kernels = cpu_of(s)->kernels, .y = y, .x = x, .w = view_f32(w), .eps = eps};
    cpu_for_rows(cpu_of(s), x.dim[0], 2 * x.dim[1], rms_norm_rows, &j);
}

static void layer_norm_rows(void *context, int64_t begin, int64_t end, int worker) {
    const NormJob *j = context;
    for (int64_t i = begin; i < end; i++)
        j->kernels->layer_norm(y_row(j, i), x_row(j, i), j->w, j->bias, j->x.dim[1], j->eps);
}

void cpu_layer_norm(Stream *s, View y, View x, View w, View bias, float eps) {
    NormJob j = {.kernels = cpu_of(s)->kernels, .y = y, .x = x, .eps = eps};
    j.w = w.data;
    j.bias = bias.data;
    cpu_for_rows(cpu_of(s), x.dim[0], 3 * x.dim[1], layer_norm_rows, &j);
}

static void norm_modulate_rows(void *context, int64_t begin, int64_t end, int worker) {
    const NormJob *j = context;
    for (int64_t i = begin; i < end; i++)
        j->kernels->norm_modulate(y_row(j, i), x_row(j, i), j->bias, j->w, j->x.dim[1], j->eps);
}

void cpu_norm_modulate(Stream *s, View y, View x, View shift, View scale, float eps) {
    NormJob j = {.kernels = cpu_of(s)->kernels, .y = y, .x = x, .eps = eps};
    j.w = view_f32(scale);
    j.bias = view_f32(shift);
    cpu_for_rows(cpu_of(s), x.dim[0], 3 * x.dim[1], norm_modulate_rows, &j);
}

static void norm_rope_rows(void *context, int64_t begin, int64_t end, int worker) {
    const NormJob *j = context;
    int64_t n = j->x.dim[1];
    for (int64_t i = begin; i < end; i++) {
        float *y = y_row(j, i);
        j->kernels->rms_norm(y, x_row(j, i), j->w, n, j->eps);
        for (int64_t head = 0; j->rope && head < n; head += j->head_dim)
            j->kernels->rope(y + head, y + head, j->rope + i * j->head_dim, j->head_dim);
    }
}

void cpu_norm_rope(Stream *s, View y, View x, View w, View rope, int64_t n_heads, float eps) {
    NormJob j = {.kernels = cpu_of(s)->kernels, .y = y, .x = x, .w = view_f32(w), .eps = eps};
    j.rope = rope.data;
    j.head_dim = x.dim[1] / n_heads;
    cpu_for_rows(cpu_of(s), x.dim[0], 3 * x.dim[1], norm_rope_rows, &j);
}

static void vae_norm_rows(void *context, int64_t begin, int64_t end, int worker) {
    const NormJob *j = context;
    int64_t c = j->x.dim[3];
    j->kernels->vae_norm(
            view_f32(j->y) + begin * c, view_f32(j->x) + begin * c, j->w, end - begin, c, j->act);
}

void cpu_vae_norm(Stream *s, View y, View x, View gamma, Activation act) {
    NormJob j = {.kernels = cpu_of(s)->kernels, .y = y, .x = x, .w = view_f32(gamma), .act = act};
    int64_t c = x.dim[3];
    cpu_for_rows(cpu_of(s), c ? view_count(x) / c : 0, 2 * c, vae_norm_rows, &j);
}
