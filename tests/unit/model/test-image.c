#include "test.h"

#include "base/err.h"
#include "base/macro.h"
#include "model/image.h"

#include <errno.h>

/* Computed with best_output_size() of Wan2.2 wan/utils/utils.py. */
static void sizes_are_the_official_ones(void **state) {
    static const int64_t cases[][6] = {
            /* picture, area, multiple, video */
            {1920, 1080, 704 * 1280, 32, 1248, 704},
            {1280, 704, 704 * 1280, 32, 1280, 704},
            {1080, 1920, 704 * 1280, 32, 704, 1248},
            {1024, 1024, 704 * 1280, 32, 960, 928},
            {640, 480, 704 * 1280, 32, 1088, 800},
            {1, 1, 128 * 128, 32, 128, 128},
            {300, 200, 128 * 128, 32, 160, 96},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const int64_t *c = cases[i];
        int64_t w, h;
        assert_int_equal(image_fit_size(c[0], c[1], c[2], c[3], &w, &h, NULL), 0);
        assert_int_equal(w, c[4]);
        assert_int_equal(h, c[5]);
    }
}

static void sizes_keep_the_budget(void **state) {
    for (int64_t pw = 1; pw < 400; pw += 7)
        for (int64_t ph = 1; ph < 400; ph += 5) {
            int64_t w, h;
            if (image_fit_size(pw, ph, 480 * 832, 32, &w, &h, NULL) < 0)
                continue;
            assert_true(w > 0 && h > 0 && w % 32 == 0 && h % 32 == 0 && w * h <= 480 * 832);
        }
}

static void needle_is_refused(void **state) {
    Err err = {0};
    int64_t w, h;
    assert_int_equal(image_fit_size(1, 100000, 128 * 128, 32, &w, &h, &err), -EINVAL);
    assert_string_equal(err_text(&err), "a picture of 1x100000 pixels is too narrow for a video of "
                                        "16384 pixels with sides that "
                                        "are multiples of 32");
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(sizes_are_the_official_ones),
            cmocka_unit_test(sizes_keep_the_budget),
            cmocka_unit_test(needle_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
