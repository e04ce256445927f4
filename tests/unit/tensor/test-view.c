#include "test.h"

#include "tensor/view.h"

#include <string.h>

static float data[2 * 3 * 4];

static void dense_views_have_row_major_strides(void **state) {
    View v = view_of(data, DTYPE_F32, 2, 3, 4);
    assert_int_equal(v.stride[0], 12);
    assert_int_equal(v.stride[1], 4);
    assert_int_equal(v.stride[2], 1);
    assert_int_equal(view_count(v), 24);
    assert_int_equal(view_bytes(v), 96);
    assert_true(view_is_dense(v));
    assert_false(view_is_null(v));
    assert_true(view_is_null((View){0}));
}

static void slices_point_into_the_same_bytes(void **state) {
    View v = view_of(data, DTYPE_F32, 2, 3, 4);
    assert_ptr_equal(view_at(v, 1).data, data + 12);
    assert_int_equal(view_at(v, 1).rank, 2);
    assert_ptr_equal(view_rows(view_at(v, 0), 2, 1).data, data + 8);

    View cols = view_cols(view_at(v, 0), 1, 2);
    assert_ptr_equal(cols.data, data + 1);
    assert_int_equal(cols.dim[1], 2);
    assert_false(view_is_dense(cols));
    assert_true(view_is_dense(view_rows(cols, 0, 1)));

    View middle = view_part(v, 1, 1, 2);
    assert_ptr_equal(middle.data, data + 4);
    assert_int_equal(middle.dim[1], 2);
    assert_int_equal(middle.stride[0], 12);

    View odd = view_every(view_reshape(v, 6, 4), 1, 2);
    assert_ptr_equal(odd.data, data + 4);
    assert_int_equal(odd.dim[0], 3);
    assert_int_equal(odd.stride[0], 8);
}

static void shapes_read_well(void **state) {
    char text[VIEW_TEXT_SIZE];
    assert_string_equal(view_shape_text(2, (int64_t[]){3072, 192}, text), "[3072,192]");
    assert_string_equal(view_shape_text(0, NULL, text), "[]");
    int64_t widest[5] = {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN};
    assert_int_equal(strlen(view_shape_text(5, widest, text)), 5 * 20 + 4 + 2);
}

static void dtypes_have_names_and_sizes(void **state) {
    assert_string_equal(dtype_name(DTYPE_BF16), "BF16");
    assert_int_equal(dtype_bytes(DTYPE_BF16), 2);
    assert_string_equal(dtype_name(DTYPE_F64), "F64");
    assert_int_equal(dtype_bytes(DTYPE_F64), 8);
    assert_int_equal(dtype_bytes(DTYPE_U8), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(dense_views_have_row_major_strides),
            cmocka_unit_test(slices_point_into_the_same_bytes),
            cmocka_unit_test(shapes_read_well),
            cmocka_unit_test(dtypes_have_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
