#include "test.h"

#include "base/digest.h"
#include "media/codec/resize.h"

#include <stdlib.h>

/* Pixels that any program can make; the source of the reference below used the same formula. */
static uint8_t *make_source(ResizeSize size) {
    uint8_t *rgb = malloc((size_t)(size.width * size.height * 3));
    assert_non_null(rgb);
    for (int64_t y = 0; y < size.height; y++)
        for (int64_t x = 0; x < size.width; x++) {
            uint32_t v = (uint32_t)x * 2654435761u + (uint32_t)y * 40503u + (uint32_t)(x * y * 97);
            for (int c = 0; c < 3; c++)
                rgb[(y * size.width + x) * 3 + c] = (uint8_t)(v >> (8 + 8 * c));
        }
    return rgb;
}

/* XXH3-128 of what Pillow 13.0.0 gives on x86-64 for the lines of wan/textimage2video.py:
 *   s = max(ow / iw, oh / ih)
 *   img = img.resize((round(iw * s), round(ih * s)), Image.LANCZOS)
 *   x1 = (img.width - ow) // 2; y1 = (img.height - oh) // 2; img.crop((x1, y1, x1 + ow, y1 + oh))
 */
static const struct {
    ResizeSize from, to;
    const char *digest;
} cases[] = {
        {{37, 23}, {64, 32}, "bf9f6759ef3081ddc918aecdc919516f"},
        {{37, 23}, {32, 64}, "6407acc4ef0d6de92ec168fe88a004f8"},
        {{64, 48}, {20, 12}, "3666ff21d780d429923889c34475a06f"},
        {{200, 31}, {32, 32}, "a212ed4d1e54c051c1a27aff48beec77"},
        {{31, 200}, {32, 64}, "503b9a1c6839122e32dc616a4ea4dc04"},
        {{33, 33}, {33, 33}, "a2de4e42468deafb650c51d5aebc0400"},
        {{7, 5}, {96, 64}, "65f44da207451cc8f425c5705cb58eae"},
        {{3, 2}, {2, 1}, "e665d392a0006add40dd806592336977"},
        {{1, 1}, {4, 6}, "0442236975e8eee0d19b67b2d77d4003"},
        {{640, 480}, {352, 224}, "375c1d272129cca80bd62527563105e6"},
        {{45, 30}, {31, 21}, "005da9362f9c8a3083b674759bc2bef9"},
};

static void equals_the_reference(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ResizeSize to = cases[i].to;
        size_t n = (size_t)(to.width * to.height * 3);
        uint8_t *x = make_source(cases[i].from), *y = malloc(n);
        assert_non_null(y);
        Err err = {0};
        assert_int_equal(resize_cover(x, cases[i].from, y, to, &err), 0);
        Digest d = digest_of(y, n);
        char text[DIGEST_HEX_SIZE];
        assert_string_equal(digest_hex(&d, text), cases[i].digest);
        free(x);
        free(y);
    }
}

/* Covering 1280 x 704 with a line of pixels would be a picture of 1280 x 5,000,000 and more. */
static void extreme_shapes_cost_little(void **state) {
    static const ResizeSize shapes[] = {{1, 4000}, {4000, 1}};
    ResizeSize to = {1280, 704};
    uint8_t *y = malloc((size_t)(to.width * to.height * 3));
    assert_non_null(y);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        uint8_t *x = make_source(shapes[i]);
        assert_int_equal(resize_cover(x, shapes[i], y, to, NULL), 0);
        free(x);
    }
    free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(equals_the_reference),
            cmocka_unit_test(extreme_shapes_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
