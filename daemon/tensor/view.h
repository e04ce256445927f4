/* view - what bytes mean: an address, a dtype, extents and strides.
 *
 * A view owns nothing and is passed by value. Its address belongs to whoever made the memory (host
 * or one backend) and is not touched here. Row-major; the last axis is always dense (stride 1). A
 * view of all zeros is the null view, "not there". Shapes are our own mistakes here, hence
 * asserted; shapes from files are checked where they are read. */
#ifndef PREHEAT_TENSOR_VIEW_H
#define PREHEAT_TENSOR_VIEW_H

#include "tensor/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VIEW_MAX_RANK = 5 };

typedef struct View {
    void *data;
    DType dtype;
    int rank;
    int64_t dim[VIEW_MAX_RANK];
    int64_t stride[VIEW_MAX_RANK]; /* in elements */
} View;

/* view_make - a dense view of rank 0 to 5; extents must be >= 0 and their bytes fit 63 bits,
 * asserted. */
View view_make(void *data, DType dtype, int rank, const int64_t dim[]);
#define view_of(data, dtype, ...)                                                                  \
    view_make((data), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),          \
            (const int64_t[]){__VA_ARGS__})

static inline bool view_is_null(View v) {
    return v.data == NULL && v.rank == 0;
}

int64_t view_count(View v); /* elements */
size_t view_bytes(View v);  /* bytes of the elements, without gaps */
bool view_is_dense(View v);
bool view_same_shape(View a, View b);

/* view_part - n entries of an axis from start on. */
View view_part(View v, int axis, int64_t start, int64_t n);

/* view_rows - n entries of the first axis from start on. */
View view_rows(View v, int64_t start, int64_t n);

/* view_cols - n entries of the last axis from start on. */
View view_cols(View v, int64_t start, int64_t n);

/* view_at - entry i of the first axis, one rank less. */
View view_at(View v, int64_t i);

/* view_every - every step-th entry of the first axis from start on (step divides what is left,
 * asserted). */
View view_every(View v, int64_t start, int64_t step);

/* view_reshape - the same elements in other extents; v must be dense, asserted. */
View view_reshape_to(View v, int rank, const int64_t dim[]);
#define view_reshape(v, ...)                                                                       \
    view_reshape_to((v), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                \
            (const int64_t[]){__VA_ARGS__})

enum { VIEW_TEXT_SIZE = 5 * 21 + 3 };

/* view_shape_text - "[3072,192]" into text; returns text. Also for extents without a view. */
const char *view_shape_text(int rank, const int64_t dim[], char text[static VIEW_TEXT_SIZE]);

#endif
