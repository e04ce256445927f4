#include "backend/cpu/cpu-impl.h"

#include <math.h>

/* Moves of elements between layouts. Items are rows of pixels or of tokens of the output. */
typedef struct ShuffleJob {
    View y, x;
    const float *scale, *shift;
    int64_t ft, fs, p;
} ShuffleJob;

/* One item is a row of y. Element e of the folded channels is x channel e / (ft fs fs) at time and
 * place of e % (ft fs fs); y channel o is the mean of folded channels o g .. o g + g - 1. */
static void avg_down_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t ft = j->ft, fs = j->fs, fold = ft * fs * fs;
    int64_t w = j->y.dim[2], c_out = j->y.dim[3], c_in = j->x.dim[3], group = c_in * fold / c_out;
    int64_t missing = j->y.dim[0] * ft - j->x.dim[0];
    for (int64_t item = begin; item < end; item++) {
        int64_t row = item % j->y.dim[1], t = item / j->y.dim[1];
        for (int64_t col = 0; col < w; col++)
            for (int64_t o = 0; o < c_out; o++) {
                float sum = 0;
                for (int64_t e = o * group; e < (o + 1) * group; e++) {
                    int64_t place = e % fold, frame = t * ft + place / (fs * fs) - missing;
                    int64_t y = row * fs + place / fs % fs, x = col * fs + place % fs;
                    if (frame >= 0)
                        sum += view_f32(j->x)[((frame * j->x.dim[1] + y) * j->x.dim[2] + x) * c_in +
                                              e / fold];
                }
                view_f32(j->y)[(item * w + col) * c_out + o] += sum / (float)group;
            }
    }
}

void cpu_avg_down_add(Stream *s, View y, View x, int ft, int fs) {
    ShuffleJob j = {.y = y, .x = x, .ft = ft, .fs = fs};
    cpu_for_rows(cpu_of(s), y.dim[0] * y.dim[1], 8 * y.dim[2] * y.dim[3], avg_down_rows, &j);
}

static void dup_up_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t ft = j->ft, fs = j->fs;
    int64_t w = j->y.dim[2], c_out = j->y.dim[3], c_in = j->x.dim[3];
    int64_t fold = ft * fs * fs, repeats = c_out * fold / c_in;
    int64_t dropped = j->x.dim[0] * ft - j->y.dim[0];
    for (int64_t item = begin; item < end; item++) {
        int64_t row = item % j->y.dim[1], t = item / j->y.dim[1] + dropped;
        const float *x = view_f32(j->x) + (t / ft * j->x.dim[1] + row / fs) * j->x.dim[2] * c_in;
        float *y = view_f32(j->y) + item * w * c_out;
        for (int64_t col = 0; col < w; col++, y += c_out) {
            int64_t place = (t % ft * fs + row % fs) * fs + col % fs;
            const float *from = x + col / fs * c_in + place / repeats;
            /* from[(o fold + place) / repeats], without a division an element. */
            for (int64_t o = 0, rest = place % repeats; o < c_out; o++) {
                y[o] += *from;
                for (rest += fold; rest >= repeats; rest -= repeats)
                    from++;
            }
        }
    }
}

void cpu_dup_up_add(Stream *s, View y, View x, int ft, int fs) {
    ShuffleJob j = {.y = y, .x = x, .ft = ft, .fs = fs};
    cpu_for_rows(cpu_of(s), y.dim[0] * y.dim[1], 4 * y.dim[2] * y.dim[3], dup_up_rows, &j);
}

/* One item is a token. Channel slow in the input's tokens, fast in the output's. */
static void patchify_tokens(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t p = j->p, c = j->x.dim[0], h = j->x.dim[2], w = j->x.dim[3];
    for (int64_t item = begin; item < end; item++) {
        int64_t col = item % (w / p), row = item / (w / p) % (h / p), t = item / (w / p) / (h / p);
        float *y = view_f32(j->y) + item * c * p * p;
        for (int64_t k = 0; k < c; k++)
            for (int64_t py = 0; py < p; py++)
                for (int64_t px = 0; px < p; px++)
                    *y++ = view_f32(
                            j->x)[((k * j->x.dim[1] + t) * h + row * p + py) * w + col * p + px];
    }
}

void cpu_patchify(Stream *s, View y, View x, int p) {
    ShuffleJob j = {.y = y, .x = x, .p = p};
    cpu_for_rows(cpu_of(s), y.dim[0], 2 * y.dim[1], patchify_tokens, &j);
}

static void unpatchify_tokens(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t p = j->p, c = j->y.dim[0], h = j->y.dim[2], w = j->y.dim[3];
    for (int64_t item = begin; item < end; item++) {
        int64_t col = item % (w / p), row = item / (w / p) % (h / p), t = item / (w / p) / (h / p);
        const float *x = view_f32(j->x) + item * c * p * p;
        for (int64_t py = 0; py < p; py++)
            for (int64_t px = 0; px < p; px++)
                for (int64_t k = 0; k < c; k++)
                    view_f32(j->y)[((k * j->y.dim[1] + t) * h + row * p + py) * w + col * p + px] =
                            *x++;
    }
}

void cpu_unpatchify(Stream *s, View y, View x, int p) {
    ShuffleJob j = {.y = y, .x = x, .p = p};
    cpu_for_rows(cpu_of(s), x.dim[0], 2 * x.dim[1], unpatchify_tokens, &j);
}

static void to_channels_last_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t w = j->y.dim[2], c = j->y.dim[3];
    int64_t plane = j->x.dim[1] * j->x.dim[2] * j->x.dim[3];
    for (int64_t item = begin; item < end; item++)
        for (int64_t col = 0; col < w; col++)
            for (int64_t k = 0; k < c; k++)
                view_f32(j->y)[(item * w + col) * c + k] =
                        view_f32(j->x)[k * plane + item * w + col] * j->scale[k] + j->shift[k];
}

void cpu_to_channels_last(Stream *s, View y, View x, View scale, View shift) {
    ShuffleJob j = {.y = y, .x = x, .scale = view_f32(scale), .shift = view_f32(shift)};
    cpu_for_rows(
            cpu_of(s), y.dim[0] * y.dim[1], 2 * y.dim[2] * y.dim[3], to_channels_last_rows, &j);
}

static void to_channels_first_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t h = j->x.dim[1], w = j->x.dim[2], c = j->x.dim[3];
    int64_t plane = j->y.dim[1] * h * w;
    for (int64_t item = begin; item < end; item++)
        for (int64_t col = 0; col < w; col++) {
            const float *x = view_f32(j->x) + item / h * j->x.stride[0] +
                             item % h * j->x.stride[1] + col * j->x.stride[2];
            for (int64_t k = 0; k < c; k++)
                view_f32(j->y)[k * plane + item * w + col] = x[k] * j->scale[k] + j->shift[k];
        }
}

void cpu_to_channels_first(Stream *s, View y, View x, View scale, View shift) {
    ShuffleJob j = {.y = y, .x = x, .scale = view_f32(scale), .shift = view_f32(shift)};
    cpu_for_rows(
            cpu_of(s), x.dim[0] * x.dim[1], 2 * x.dim[2] * x.dim[3], to_channels_first_rows, &j);
}

/* One item is a row of patches. */
static void vae_patchify_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t p = j->p, h = j->y.dim[1], w = j->y.dim[2], c = j->x.dim[3];
    for (int64_t item = begin; item < end; item++) {
        const float *x = view_f32(j->x) + (item / h * j->x.dim[1] + item % h * p) * j->x.dim[2] * c;
        float *y = view_f32(j->y) + item * w * c * p * p;
        for (int64_t col = 0; col < w; col++)
            for (int64_t k = 0; k < c; k++)
                for (int64_t r = 0; r < p; r++)
                    for (int64_t q = 0; q < p; q++)
                        *y++ = x[(q * j->x.dim[2] + col * p + r) * c + k];
    }
}

void cpu_vae_patchify(Stream *s, View y, View x, int p) {
    ShuffleJob j = {.y = y, .x = x, .p = p};
    cpu_for_rows(cpu_of(s), y.dim[0] * y.dim[1], 2 * y.dim[2] * y.dim[3], vae_patchify_rows, &j);
}

/* A NaN stays one in F32 and becomes 0 in U8. */
static void vae_unpatchify_rows(void *context, int64_t begin, int64_t end, int worker) {
    const ShuffleJob *j = context;
    int64_t p = j->p, h = j->x.dim[1], w = j->x.dim[2], c = j->y.dim[3];
    for (int64_t item = begin; item < end; item++) {
        const float *x = view_f32(j->x) + item * w * c * p * p;
        int64_t y = (item / h * j->y.dim[1] + item % h * p) * j->y.dim[2] * c;
        for (int64_t col = 0; col < w; col++)
            for (int64_t k = 0; k < c; k++)
                for (int64_t r = 0; r < p; r++)
                    for (int64_t q = 0; q < p; q++) {
                        int64_t to = y + (q * j->y.dim[2] + col * p + r) * c + k;
                        float v = *x++;
                        v = v < -1 ? -1 : v > 1 ? 1 : v;
                        if (j->y.dtype == DTYPE_F32)
                            view_f32(j->y)[to] = v;
                        else
                            ((uint8_t *)j->y.data)[to] =
                                    isnan(v) ? 0 : (uint8_t)lrintf((v / 2 + 0.5f) * 255);
                    }
    }
}

void cpu_vae_unpatchify(Stream *s, View y, View x, int p) {
    ShuffleJob j = {.y = y, .x = x, .p = p};
    cpu_for_rows(cpu_of(s), x.dim[0] * x.dim[1], 4 * x.dim[2] * x.dim[3], vae_unpatchify_rows, &j);
}
