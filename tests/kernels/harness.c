#include "harness.h"

#include "base/clock.h"
#include "base/half.h"
#include "base/size.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 512, MAX_SHOWN = 3 };

static void *must(void *p) {
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static uint64_t random_bits(Test *t) {
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return t->random * 0x2545f4914f6cdd1d;
}

int64_t random_index(Test *t, int64_t n) {
    return (int64_t)(random_bits(t) >> 33) % n;
}

static double element_get(const void *p, DType dtype) {
    uint16_t h;
    float f;
    int32_t i;
    switch (dtype) {
    case DTYPE_BF16:
        memcpy(&h, p, sizeof(h));
        return (double)bf16_to_f32(h);
    case DTYPE_F16:
        memcpy(&h, p, sizeof(h));
        return (double)f16_to_f32(h);
    case DTYPE_I32:
        memcpy(&i, p, sizeof(i));
        return i;
    case DTYPE_U8:
        return *(const unsigned char *)p;
    default:
        memcpy(&f, p, sizeof(f));
        return (double)f;
    }
}

static void element_set(void *p, DType dtype, double value) {
    float f = (float)value;
    uint16_t h;
    switch (dtype) {
    case DTYPE_BF16:
        h = bf16_from_f32(f);
        memcpy(p, &h, sizeof(h));
        break;
    case DTYPE_F16:
        h = f16_from_f32(f);
        memcpy(p, &h, sizeof(h));
        break;
    default:
        assert(dtype == DTYPE_F32);
        memcpy(p, &f, sizeof(f));
    }
}

static double rounded(DType dtype, double value) {
    unsigned char bytes[8];
    element_set(bytes, dtype, value);
    return element_get(bytes, dtype);
}

double random_value(Test *t, DType dtype, double scale) {
    double unit = (double)(random_bits(t) >> 11) * 0x1p-53;
    double value = (0.25 + 0.75 * unit) * scale;
    return rounded(dtype, random_bits(t) >> 63 ? value : -value);
}

bool case_begin(Test *t, const char *fmt, ...) {
    assert(!t->tensors);
    if (t->every > 0 && t->n_begun++ % t->every != 0)
        return false;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(t->shape, sizeof(t->shape), fmt, ap);
    va_end(ap);
    return true;
}

/* Where element i of the dense order lies, in elements from the view's start. */
static int64_t element_offset(View v, int64_t i) {
    int64_t offset = 0;
    for (int k = v.rank - 1; k >= 0; k--) {
        offset += i % v.dim[k] * v.stride[k];
        i /= v.dim[k];
    }
    return offset;
}

static unsigned char *element_in(unsigned char *image, const Tensor *x, int64_t i) {
    return image + x->view_begin + (size_t)element_offset(x->view, i) * dtype_bytes(x->view.dtype);
}

static void fail_setup(const Test *t, const char *what, const Err *err) {
    fprintf(stderr, "%s: %s: %s\n", t->op, what, err_text(err));
    exit(1);
}

static Memory *device_memory(Test *t, size_t bytes) {
    Err err = {0};
    Memory *m;
    if (memory_new(t->backend, bytes, &m, &err) < 0)
        fail_setup(t, "memory_new", &err);
    return m;
}

static View bytes_view(void *data, size_t bytes) {
    return view_of(data, DTYPE_U8, (int64_t)bytes);
}

static Tensor *tensor_add(Test *t, const char *name) {
    Tensor *x = must(calloc(1, sizeof(*x)));
    x->name = name;
    x->next = t->tensors;
    t->tensors = x;
    return x;
}

static void set_strides(View *v, int64_t gap) {
    if (v->rank == 2 || v->rank == 4)
        v->stride[0] += gap;
}

Tensor *tensor_new(Test *t, const char *name, Role role, DType dtype, Layout layout, int rank,
        const int64_t dim[]) {
    Tensor *x = tensor_add(t, name);
    x->view = view_make(NULL, dtype, rank, dim);
    set_strides(&x->view, (layout.gap + t->align - 1) / t->align * t->align);
    x->is_input = role & ROLE_IN;
    x->is_output = role & ROLE_OUT;
    int64_t n = view_count(x->view);
    size_t span = n ? (size_t)(element_offset(x->view, n - 1) + 1) * dtype_bytes(dtype) : 0;
    x->view_begin = GUARD;
    x->image_bytes = GUARD + span + GUARD;
    x->image = must(malloc(x->image_bytes));
    for (size_t i = 0; i < x->image_bytes; i++)
        x->image[i] = (unsigned char)(0xa5 + i);
    x->value = must(calloc((size_t)n + 1, sizeof(double)));
    x->want = must(calloc((size_t)n + 1, sizeof(double)));
    x->tolerance = must(calloc((size_t)n + 1, sizeof(double)));
    for (int64_t i = 0; i < n; i++) {
        unsigned char *e = element_in(x->image, x, i);
        memset(e, 0xff, dtype_bytes(dtype)); /* a NaN in every floating dtype */
        x->tolerance[i] = -1;                /* nothing is right until the case says what */
        if (!x->is_input)
            continue;
        x->value[i] = random_value(t, dtype, layout.spread > 0 ? layout.spread : 1);
        element_set(e, dtype, x->value[i]);
    }
    x->memory = device_memory(t, x->image_bytes);
    char *data = memory_data(x->memory);
    stream_upload(
            t->stream, bytes_view(data, x->image_bytes), bytes_view(x->image, x->image_bytes));
    x->view.data = data + x->view_begin;
    return x;
}

/* The host's copy ends where its allocation ends, so that ASan sees what is read past it. */
Tensor *tensor_weight(
        Test *t, const char *name, WeightKind kind, DType dtype, int rank, const int64_t dim[]) {
    Tensor *x = tensor_add(t, name);
    View host = view_make(NULL, dtype, rank, dim);
    int64_t n = view_count(host);
    size_t element = dtype_bytes(dtype);
    x->is_input = true;
    x->value = must(calloc((size_t)n, sizeof(double)));
    x->image_bytes = view_bytes(host);
    /* Files may hold a tensor at any address. */
    size_t shift = t->any_address ? (size_t)t->n_cases % 2 : 0;
    x->image = must(malloc(x->image_bytes + shift));
    host.data = x->image + shift;
    double fan_in = (double)n / (double)dim[0];
    for (int64_t i = 0; i < n; i++) {
        x->value[i] = random_value(t, dtype, kind == WEIGHT_VECTOR ? 1 : 2 / sqrt(fan_in));
        element_set((unsigned char *)host.data + (size_t)i * element, dtype, x->value[i]);
    }
    size_t bytes = weight_bytes(t->backend, kind, host);
    void *storage = NULL;
    if (bytes > 0) {
        x->memory = device_memory(t, bytes + GUARD);
        storage = memory_data(x->memory);
        x->tail = bytes;
        unsigned char guard[GUARD];
        memset(guard, 0xa5, sizeof(guard));
        stream_upload(t->stream, bytes_view((char *)storage + bytes, GUARD),
                bytes_view(guard, sizeof(guard)));
    }
    weight_import(t->stream, &(WeightImport){kind, host, storage}, 1);
    x->view = weight_view(t->backend, kind, host, storage);
    return x;
}

void tensor_want(Test *t, Tensor *y, int64_t i, double value, double tolerance) {
    double u = y->view.dtype == DTYPE_BF16 ? U_BF16 : y->view.dtype == DTYPE_F16 ? 0x1p-11 : U_F32;
    bool integer = y->view.dtype == DTYPE_U8 || y->view.dtype == DTYPE_I32;
    double rounding = integer || !isfinite(value) ? 0 : u * (fabs(value) + tolerance) + 0x1p-149;
    assert(y->is_output && tolerance >= 0);
    y->want[i] = value;
    y->tolerance[i] = tolerance + rounding;
}

static void print_place(const Test *t, const Tensor *x, int64_t i) {
    fprintf(stderr, "%s (%s) %s: %s[", t->op, t->variant, t->shape, x->name);
    int64_t place[VIEW_MAX_RANK];
    for (int k = x->view.rank - 1; k >= 0; k--) {
        place[k] = i % x->view.dim[k];
        i /= x->view.dim[k];
    }
    for (int k = 0; k < x->view.rank; k++)
        fprintf(stderr, "%s%" PRId64, k ? "," : "", place[k]);
    fprintf(stderr, "]");
}

static bool values_agree(const Test *t, const Tensor *x, unsigned char *got) {
    int64_t n = view_count(x->view), n_wrong = 0, first = -1;
    for (int64_t i = 0; x->is_output && i < n; i++) {
        double is = element_get(element_in(got, x, i), x->view.dtype);
        bool same = is == x->want[i] || (isnan(is) && isnan(x->want[i]));
        if (x->tolerance[i] >= 0 && (same || fabs(is - x->want[i]) <= x->tolerance[i]))
            continue;
        n_wrong++;
        if (first < 0)
            first = i;
    }
    if (n_wrong == 0 || t->n_shown >= MAX_SHOWN)
        return n_wrong == 0;
    print_place(t, x, first);
    fprintf(stderr, " is %.9g, must be %.9g within %.3g; %" PRId64 " of %" PRId64 " are wrong\n",
            element_get(element_in(got, x, first), x->view.dtype), x->want[first],
            x->tolerance[first], n_wrong, n);
    for (int64_t i = first; i < MIN(first + 8, n); i++)
        fprintf(stderr, "    %+.9g for %+.9g\n", element_get(element_in(got, x, i), x->view.dtype),
                x->want[i]);
    return false;
}

/* Whatever is no output element must hold what it held. */
static bool rest_is_untouched(const Test *t, const Tensor *x, unsigned char *got) {
    int64_t n = view_count(x->view);
    for (int64_t i = 0; x->is_output && i < n; i++)
        memcpy(element_in(got, x, i), element_in(x->image, x, i), dtype_bytes(x->view.dtype));
    for (size_t i = 0; i < x->image_bytes; i++) {
        if (got[i] == x->image[i])
            continue;
        fprintf(stderr, "%s (%s) %s: %s: byte %+zd of %zu was written (%02x, now %02x)\n", t->op,
                t->variant, t->shape, x->name, (ssize_t)(i - x->view_begin),
                x->image_bytes - 2 * x->view_begin, x->image[i], got[i]);
        return false;
    }
    return true;
}

static bool weight_is_right(Test *t, const Tensor *x) {
    if (!x->memory)
        return true;
    unsigned char guard[GUARD];
    stream_download(t->stream, bytes_view(guard, sizeof(guard)),
            bytes_view((char *)memory_data(x->memory) + x->tail, sizeof(guard)));
    Err err = {0};
    if (stream_finish(t->stream, &err) < 0)
        fail_setup(t, t->shape, &err);
    for (size_t i = 0; i < sizeof(guard); i++)
        if (guard[i] != 0xa5) {
            fprintf(stderr, "%s (%s) %s: %s: byte %zu past its %zu was written\n", t->op,
                    t->variant, t->shape, x->name, i, x->tail);
            return false;
        }
    return true;
}

static bool tensor_is_right(Test *t, const Tensor *x) {
    if (x->view_begin == 0)
        return weight_is_right(t, x);
    unsigned char *got = must(malloc(x->image_bytes));
    stream_download(t->stream, bytes_view(got, x->image_bytes),
            bytes_view(memory_data(x->memory), x->image_bytes));
    Err err = {0};
    if (stream_finish(t->stream, &err) < 0)
        fail_setup(t, t->shape, &err);
    for (size_t i = 0; i < x->image_bytes; i++)
        t->digest = (t->digest ^ got[i]) * 0x100000001b3;
    bool right = values_agree(t, x, got) && rest_is_untouched(t, x, got);
    free(got);
    return right;
}

void case_end(Test *t) {
    bool right = true;
    for (Tensor *x = t->tensors; x && right && !t->bench; x = x->next)
        right = tensor_is_right(t, x);
    Err err = {0};
    if (stream_finish(t->stream, &err) < 0)
        fail_setup(t, t->shape, &err);
    for (Tensor *x = t->tensors, *next; x; x = next) {
        next = x->next;
        memory_free(x->memory);
        free(x->image);
        free(x->value);
        free(x->want);
        free(x->tolerance);
        free(x);
    }
    t->tensors = NULL;
    t->n_cases++;
    if (!right) {
        t->n_failures++;
        t->n_shown++;
    }
}

static int compare_times(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Calls run in batches of about 2 ms, so that a device's queue stays full. */
double bench_time(Test *t, BenchCall *call, const void *context) {
    enum { RUNS = 15 };
    double seconds[RUNS];
    int batch = 1;
    for (int i = -1; i < RUNS; i++) {
        Err err = {0};
        uint64_t begin = clock_usec();
        for (int k = 0; k < batch; k++)
            call(t->stream, context);
        if (stream_finish(t->stream, &err) < 0)
            fail_setup(t, "bench", &err);
        double each = (double)(clock_usec() - begin) * 1e-6 / batch;
        if (i < 0 && each * batch < 2e-3 && batch < 4096) {
            batch *= 2;
            i--;
        } else if (i >= 0) {
            seconds[i] = each;
        }
    }
    qsort(seconds, RUNS, sizeof(seconds[0]), compare_times);
    return seconds[RUNS / 2];
}

void bench_print(Test *t, const char *shape, double seconds, double flops, double bytes) {
    printf("%-18s %-34s %10.1f us %8.1f GFLOP/s %4.0f%% %7.1f GB/s %4.0f%%\n", t->op, shape,
            seconds * 1e6, flops / seconds * 1e-9, 100 * flops / seconds / t->peak_flops,
            bytes / seconds * 1e-9, 100 * bytes / seconds / t->peak_bytes);
    (void)fflush(stdout);
}
