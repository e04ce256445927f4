#include "tensor/view.h"

#include "base/macro.h"
#include "base/size.h"

#include <inttypes.h>
#include <stdio.h>

View view_make(void *data, DType dtype, int rank, const int64_t dim[]) {
    assert(rank >= 0 && rank <= VIEW_MAX_RANK);
    View v = {.data = data, .dtype = dtype, .rank = rank};
    uint64_t stride = 1, bytes = dtype_bytes(dtype);
    for (int i = rank - 1; i >= 0; i--) {
        assert(dim[i] >= 0);
        v.dim[i] = dim[i];
        v.stride[i] = (int64_t)stride;
        bool fits = size_mul(stride, (uint64_t)MAX(dim[i], (int64_t)1), &stride) &&
                    size_mul(bytes, (uint64_t)MAX(dim[i], (int64_t)1), &bytes);
        assert(fits && bytes <= INT64_MAX);
    }
    return v;
}

int64_t view_count(View v) {
    int64_t n = 1;
    for (int i = 0; i < v.rank; i++)
        n *= v.dim[i];
    return n;
}

size_t view_bytes(View v) {
    return (size_t)view_count(v) * dtype_bytes(v.dtype);
}

bool view_is_dense(View v) {
    int64_t stride = 1;
    for (int i = v.rank - 1; i >= 0; i--) {
        if (v.dim[i] > 1 && v.stride[i] != stride)
            return false;
        stride *= v.dim[i];
    }
    return true;
}

bool view_same_shape(View a, View b) {
    if (a.rank != b.rank)
        return false;
    for (int i = 0; i < a.rank; i++)
        if (a.dim[i] != b.dim[i])
            return false;
    return true;
}

static void *offset(View v, int64_t elements) {
    return (char *)v.data + elements * (int64_t)dtype_bytes(v.dtype);
}

View view_part(View v, int axis, int64_t start, int64_t n) {
    assert(axis >= 0 && axis < v.rank && start >= 0 && n >= 0 && start <= v.dim[axis] - n);
    v.data = offset(v, start * v.stride[axis]);
    v.dim[axis] = n;
    return v;
}

View view_rows(View v, int64_t start, int64_t n) {
    return view_part(v, 0, start, n);
}

View view_cols(View v, int64_t start, int64_t n) {
    return view_part(v, v.rank - 1, start, n);
}

View view_at(View v, int64_t i) {
    assert(v.rank >= 1 && i >= 0 && i < v.dim[0]);
    v.data = offset(v, i * v.stride[0]);
    v.rank--;
    for (int k = 0; k < v.rank; k++) {
        v.dim[k] = v.dim[k + 1];
        v.stride[k] = v.stride[k + 1];
    }
    v.dim[v.rank] = v.stride[v.rank] = 0;
    return v;
}

View view_every(View v, int64_t start, int64_t step) {
    assert(v.rank >= 1 && start >= 0 && start < step && v.dim[0] % step == 0);
    v.data = offset(v, start * v.stride[0]);
    v.dim[0] /= step;
    v.stride[0] *= step;
    return v;
}

View view_reshape_to(View v, int rank, const int64_t dim[]) {
    assert(view_is_dense(v));
    View r = view_make(v.data, v.dtype, rank, dim);
    assert(view_count(r) == view_count(v));
    return r;
}

const char *view_shape_text(int rank, const int64_t dim[], char text[static VIEW_TEXT_SIZE]) {
    int used = snprintf(text, VIEW_TEXT_SIZE, "[");
    for (int i = 0; i < rank; i++)
        used += snprintf(
                text + used, (size_t)(VIEW_TEXT_SIZE - used), "%s%" PRId64, i ? "," : "", dim[i]);
    (void)snprintf(text + used, (size_t)(VIEW_TEXT_SIZE - used), "]");
    return text;
}
