#include "backend/cuda/device.cuh"

/* Element by element; all of these are bound by memory. */

enum { THREADS = 256 };

static int blocks_for(int64_t items) {
    int64_t blocks = div_up(items, THREADS);
    return (int)(blocks < 1 ? 1 : blocks > (1 << 20) ? 1 << 20 : blocks);
}

#define EACH(i, n)                                                                                 \
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (n);                         \
            i += (int64_t)gridDim.x * THREADS)

template <typename TY, typename TX>
__global__ void __launch_bounds__(THREADS) copy_kernel(Grid y, Grid x, int64_t count) {
    EACH(i, count) {
        int64_t rest = i, from = 0, to = 0;
#pragma unroll
        for (int a = 4; a >= 0; a--) {
            int64_t at = rest % x.dim[a];
            rest /= x.dim[a];
            from += at * x.stride[a];
            to += at * y.stride[a];
        }
        ((TY *)y.data)[to] = from_f32<TY>(to_f32(((const TX *)x.data)[from]));
    }
}

/* Joins axes that both grids walk without a gap; the remaining ones move to the inner end. */
static void grid_join(Grid *y, Grid *x) {
    Grid a = *y, b = *x;
    int64_t dim[5], sy[5], sx[5];
    int n = 0;
    for (int i = 0; i < 5; i++) {
        if (a.dim[i] == 1)
            continue;
        if (n > 0 && sy[n - 1] == a.stride[i] * a.dim[i] && sx[n - 1] == b.stride[i] * a.dim[i]) {
            dim[n - 1] *= a.dim[i];
            sy[n - 1] = a.stride[i];
            sx[n - 1] = b.stride[i];
        } else {
            dim[n] = a.dim[i];
            sy[n] = a.stride[i];
            sx[n] = b.stride[i];
            n++;
        }
    }
    for (int i = 0; i < 5; i++) {
        int from = i - (5 - n);
        y->dim[i] = x->dim[i] = from < 0 ? 1 : dim[from];
        y->stride[i] = from < 0 ? 0 : sy[from];
        x->stride[i] = from < 0 ? 0 : sx[from];
    }
}

template <typename TY>
static void copy_to(cudaStream_t s, Grid y, Grid x, int64_t count) {
    int blocks = blocks_for(count);
    if (x.dtype == DTYPE_F32)
        copy_kernel<TY, float><<<blocks, THREADS, 0, s>>>(y, x, count);
    else if (x.dtype == DTYPE_BF16)
        copy_kernel<TY, bf16><<<blocks, THREADS, 0, s>>>(y, x, count);
    else
        copy_kernel<TY, __half><<<blocks, THREADS, 0, s>>>(y, x, count);
}

cudaError_t pointwise_copy(cudaStream_t s, Grid y, Grid x) {
    int64_t count = 1;
    for (int i = 0; i < 5; i++)
        count *= x.dim[i];
    if (count == 0)
        return cudaSuccess;
    grid_join(&y, &x);
    size_t size = dtype_bytes(x.dtype);
    bool rows = x.dim[0] * x.dim[1] * x.dim[2] == 1 && x.stride[4] == 1 && y.stride[4] == 1;
    if (y.dtype == x.dtype && rows && x.stride[3] >= x.dim[4] && y.stride[3] >= x.dim[4])
        return cudaMemcpy2DAsync(y.data, (size_t)y.stride[3] * size, x.data,
                (size_t)x.stride[3] * size, (size_t)x.dim[4] * size, (size_t)x.dim[3],
                cudaMemcpyDeviceToDevice, s);
    if (y.dtype == x.dtype && rows && x.dim[3] == 1)
        return cudaMemcpyAsync(y.data, x.data, (size_t)count * size, cudaMemcpyDeviceToDevice, s);
    if (y.dtype == DTYPE_F32)
        copy_to<float>(s, y, x, count);
    else if (y.dtype == DTYPE_BF16)
        copy_to<bf16>(s, y, x, count);
    else
        copy_to<__half>(s, y, x, count);
    return cudaGetLastError();
}

template <typename T>
__global__ void __launch_bounds__(THREADS) fill_kernel(Grid y, float value, int64_t count) {
    EACH(i, count) {
        int64_t rest = i, to = 0;
#pragma unroll
        for (int a = 4; a >= 0; a--) {
            to += rest % y.dim[a] * y.stride[a];
            rest /= y.dim[a];
        }
        ((T *)y.data)[to] = from_f32<T>(value);
    }
}

cudaError_t pointwise_fill(cudaStream_t s, Grid y, float value) {
    int64_t count = 1;
    for (int i = 0; i < 5; i++)
        count *= y.dim[i];
    if (count == 0)
        return cudaSuccess;
    Grid same = y;
    grid_join(&y, &same);
    FOR_DTYPE(y.dtype, T, (fill_kernel<T><<<blocks_for(count), THREADS, 0, s>>>(y, value, count)));
    return cudaGetLastError();
}

template <typename T, int N>
__global__ void __launch_bounds__(THREADS)
        geglu_kernel(T *y, const T *gate, const T *up, int64_t vectors) {
    EACH(i, vectors) {
        float g[N], u[N];
        load<N>(g, gate + i * N);
        load<N>(u, up + i * N);
#pragma unroll
        for (int j = 0; j < N; j++)
            u[j] *= activate_for<T>(g[j], KERNEL_ACT_GELU_TANH);
        store<N>(y + i * N, u);
    }
}

cudaError_t pointwise_geglu(cudaStream_t s, Mat y, Mat gate, Mat up) {
    int64_t count = y.m * y.n;
    bool wide = count % 8 == 0 && is_aligned16(y.data) && is_aligned16(gate.data) &&
                is_aligned16(up.data);
    int64_t vectors = wide ? count / 8 : count;
    int blocks = blocks_for(vectors);
    if (count == 0)
        return cudaSuccess;
    FOR_DTYPE(y.dtype, T, T *to = (T *)y.data; const T *g = (const T *)gate.data;
              const T *u = (const T *)up.data;
              if (wide) geglu_kernel<T, 8><<<blocks, THREADS, 0, s>>>(to, g, u, vectors);
              else geglu_kernel<T, 1><<<blocks, THREADS, 0, s>>>(to, g, u, vectors));
    return cudaGetLastError();
}

template <typename T, int N>
__global__ void __launch_bounds__(THREADS) act_kernel(Mat y, Mat x, int64_t vectors, int act) {
    EACH(i, vectors) {
        int64_t per_row = x.n / N, row = i / per_row, at = i % per_row * N;
        float v[N];
        load<N>(v, (const T *)x.data + row * x.stride + at);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] = activate_for<T>(v[j], act);
        store<N>((T *)y.data + row * y.stride + at, v);
    }
}

cudaError_t pointwise_act(cudaStream_t s, Mat y, Mat x, int act) {
    bool wide = mat_takes_vectors(&y) && mat_takes_vectors(&x);
    int64_t vectors = x.m * (wide ? x.n / 8 : x.n);
    int blocks = blocks_for(vectors);
    if (vectors == 0)
        return cudaSuccess;
    FOR_DTYPE(y.dtype, T, if (wide) act_kernel<T, 8><<<blocks, THREADS, 0, s>>>(y, x, vectors, act);
              else act_kernel<T, 1><<<blocks, THREADS, 0, s>>>(y, x, vectors, act));
    return cudaGetLastError();
}

template <typename TX, typename TH, int N>
__global__ void __launch_bounds__(THREADS)
        add_kernel(Mat x, Mat h, const float *gate, int64_t vectors) {
    EACH(i, vectors) {
        int64_t per_row = x.n / N, row = i / per_row, at = i % per_row * N;
        TX *to = (TX *)x.data + row * x.stride + at;
        float v[N], d[N], g[N];
        load<N>(v, to);
        load<N>(d, (const TH *)h.data + row * h.stride + at);
        if (gate)
            load<N>(g, gate + at);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] = gate ? fmaf(d[j], g[j], v[j]) : v[j] + d[j];
        store<N>(to, v);
    }
}

template <typename TX, typename TH>
static void add_rows(cudaStream_t s, Mat x, Mat h, const float *gate) {
    bool wide = mat_takes_vectors(&x) && mat_takes_vectors(&h) && is_aligned16(gate);
    int64_t vectors = x.m * (wide ? x.n / 8 : x.n);
    int blocks = blocks_for(vectors);
    if (wide)
        add_kernel<TX, TH, 8><<<blocks, THREADS, 0, s>>>(x, h, gate, vectors);
    else
        add_kernel<TX, TH, 1><<<blocks, THREADS, 0, s>>>(x, h, gate, vectors);
}

cudaError_t pointwise_add(cudaStream_t s, Mat x, Mat h, const float *gate) {
    if (x.m * x.n == 0)
        return cudaSuccess;
    FOR_DTYPE(x.dtype, TX, FOR_DTYPE(h.dtype, TH, (add_rows<TX, TH>(s, x, h, gate))));
    return cudaGetLastError();
}

typedef struct Terms {
    const float *x[4];
    float a[4];
} Terms;

template <int N>
__global__ void __launch_bounds__(THREADS) lincomb_kernel(float *y, Terms terms, int64_t count) {
    EACH(i, count) {
        float sum = terms.a[0] * terms.x[0][i];
#pragma unroll
        for (int k = 1; k < N; k++)
            sum += terms.a[k] * terms.x[k][i];
        y[i] = sum;
    }
}

cudaError_t pointwise_lincomb(
        cudaStream_t s, float *y, int n, const float *const x[], const float a[], int64_t count) {
    Terms terms = {};
    for (int i = 0; i < n; i++) {
        terms.x[i] = x[i];
        terms.a[i] = a[i];
    }
    if (count == 0)
        return cudaSuccess;
    int blocks = blocks_for(count);
    if (n == 1)
        lincomb_kernel<1><<<blocks, THREADS, 0, s>>>(y, terms, count);
    else if (n == 2)
        lincomb_kernel<2><<<blocks, THREADS, 0, s>>>(y, terms, count);
    else if (n == 3)
        lincomb_kernel<3><<<blocks, THREADS, 0, s>>>(y, terms, count);
    else
        lincomb_kernel<4><<<blocks, THREADS, 0, s>>>(y, terms, count);
    return cudaGetLastError();
}

/* Whole numbers: the order of the atomic additions does not show. */
__global__ void __launch_bounds__(THREADS) count_kernel(int32_t *y, const float *x, int64_t count) {
    int mine = 0;
    EACH(i, count) {
        mine += (__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u;
    }
    mine = __reduce_add_sync(0xffffffffu, mine);
    if (threadIdx.x % 32 == 0 && mine > 0)
        atomicAdd(y, mine);
}

cudaError_t pointwise_count_nonfinite(cudaStream_t s, int32_t *y, const float *x, int64_t count) {
    cudaError_t e = cudaMemsetAsync(y, 0, sizeof(*y), s);
    if (e != cudaSuccess || count == 0)
        return e;
    int blocks = blocks_for(count);
    blocks = blocks < 1024 ? blocks : 1024;
    count_kernel<<<blocks, THREADS, 0, s>>>(y, x, count);
    return cudaGetLastError();
}
