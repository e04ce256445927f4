#include "backend/cuda/device.cuh"

/* Changes of layout, one thread an element of the output. These move the latents (tens of MB, a few
 * times a step) and the pixels (once a clip). */

enum { THREADS = 256 };

#define EACH(i, n)                                                                                 \
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (n);                         \
            i += (int64_t)gridDim.x * THREADS)

static unsigned blocks_for(int64_t count) {
    int64_t blocks = div_up(count, THREADS);
    return (unsigned)(blocks > (1 << 20) ? 1 << 20 : blocks);
}

/* t, h, w: the grid of tokens; c: latent channels. */
template <typename T>
__global__ void __launch_bounds__(THREADS) patchify_kernel(ShuffleArgs a, int64_t count) {
    EACH(i, count) {
        int64_t p = a.p, px = i % p, py = i / p % p, c = i / (p * p) % a.c;
        int64_t token = i / (p * p * a.c), X = token % a.w, Y = token / a.w % a.h;
        int64_t t = token / (a.w * a.h);
        int64_t from = ((c * a.t + t) * a.h * p + Y * p + py) * a.w * p + X * p + px;
        ((T *)a.y)[i] = from_f32<T>(((const float *)a.x)[from]);
    }
}

cudaError_t shuffle_patchify(cudaStream_t s, const ShuffleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c * a->p * a->p;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(a->y_dtype, T, (patchify_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(*a, count)));
    return cudaGetLastError();
}

__global__ void __launch_bounds__(THREADS) unpatchify_kernel(ShuffleArgs a, int64_t count) {
    EACH(i, count) {
        int64_t p = a.p, x = i % (a.w * p), y = i / (a.w * p) % (a.h * p);
        int64_t t = i / (a.w * p * a.h * p) % a.t, c = i / (a.w * p * a.h * p * a.t);
        int64_t token = (t * a.h + y / p) * a.w + x / p;
        int64_t from = (token * p * p + y % p * p + x % p) * a.c + c;
        ((float *)a.y)[i] = ((const float *)a.x)[from];
    }
}

cudaError_t shuffle_unpatchify(cudaStream_t s, const ShuffleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c * a->p * a->p;
    if (count == 0)
        return cudaSuccess;
    unpatchify_kernel<<<blocks_for(count), THREADS, 0, s>>>(*a, count);
    return cudaGetLastError();
}

template <typename T>
__global__ void __launch_bounds__(THREADS) channels_last_kernel(ShuffleArgs a, int64_t count) {
    EACH(i, count) {
        int64_t c = i % a.c, at = i / a.c, x = at % a.w, y = at / a.w % a.h, t = at / (a.w * a.h);
        float v = ((const float *)a.x)[((c * a.t + t) * a.h + y) * a.w + x];
        int64_t to = t * a.stride[0] + y * a.stride[1] + x * a.stride[2] + c;
        ((T *)a.y)[to] = from_f32<T>(fmaf(v, a.scale[c], a.shift[c]));
    }
}

cudaError_t shuffle_channels_last(cudaStream_t s, const ShuffleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(a->y_dtype, T,
            (channels_last_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(*a, count)));
    return cudaGetLastError();
}

template <typename T>
__global__ void __launch_bounds__(THREADS) channels_first_kernel(ShuffleArgs a, int64_t count) {
    EACH(i, count) {
        int64_t x = i % a.w, y = i / a.w % a.h, t = i / (a.w * a.h) % a.t;
        int64_t c = i / (a.w * a.h * a.t);
        int64_t from = t * a.stride[0] + y * a.stride[1] + x * a.stride[2] + c;
        ((float *)a.y)[i] = fmaf(to_f32(((const T *)a.x)[from]), a.scale[c], a.shift[c]);
    }
}

cudaError_t shuffle_channels_first(cudaStream_t s, const ShuffleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(a->x_dtype, T,
            (channels_first_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(*a, count)));
    return cudaGetLastError();
}

/* t, h, w: the patched grid; c: colours. */
template <typename T>
__global__ void __launch_bounds__(THREADS) vae_patchify_kernel(ShuffleArgs a, int64_t count) {
    EACH(i, count) {
        int64_t p = a.p, q = i % p, r = i / p % p, c = i / (p * p) % a.c;
        int64_t at = i / (p * p * a.c), x = at % a.w, y = at / a.w % a.h, t = at / (a.w * a.h);
        int64_t from = ((t * a.h * p + y * p + q) * a.w * p + x * p + r) * a.c + c;
        ((T *)a.y)[i] = from_f32<T>(((const float *)a.x)[from]);
    }
}

cudaError_t shuffle_vae_patchify(cudaStream_t s, const ShuffleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c * a->p * a->p;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(a->y_dtype, T,
            (vae_patchify_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(*a, count)));
    return cudaGetLastError();
}

template <typename T>
__global__ void __launch_bounds__(THREADS) vae_unpatchify_kernel(ShuffleArgs a, int64_t count) {
    EACH(i, count) {
        int64_t p = a.p, c = i % a.c, at = i / a.c, x = at % (a.w * p), y = at / (a.w * p);
        int64_t row = y % (a.h * p), t = y / (a.h * p);
        int64_t from =
                (((t * a.h + row / p) * a.w + x / p) * a.c + c) * p * p + x % p * p + row % p;
        float v = to_f32(((const T *)a.x)[from]);
        v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v; /* a NaN stays one */
        if (a.y_dtype == DTYPE_U8)
            ((uint8_t *)a.y)[i] = (uint8_t)__float2int_rn((v / 2.0f + 0.5f) * 255.0f);
        else
            ((float *)a.y)[i] = v;
    }
}

cudaError_t shuffle_vae_unpatchify(cudaStream_t s, const ShuffleArgs *a) {
    int64_t count = a->t * a->h * a->w * a->c * a->p * a->p;
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(a->x_dtype, T,
            (vae_unpatchify_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(*a, count)));
    return cudaGetLastError();
}
