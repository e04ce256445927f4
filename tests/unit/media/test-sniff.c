#include "test.h"

#include "media/codec/sniff.h"
#include "pictures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PICTURE(name) #name, name, sizeof(name)

static const struct {
    const char *name;
    const uint8_t *data;
    size_t n;
    PictureKind kind;
    uint32_t width, height;
    int orientation;
} good[] = {
        {PICTURE(png_rgb), PICTURE_PNG, 12, 10, 1},
        {PICTURE(png_rgba), PICTURE_PNG, 12, 10, 1},
        {PICTURE(png_palette), PICTURE_PNG, 12, 10, 1},
        {PICTURE(png_gray), PICTURE_PNG, 12, 10, 1},
        {PICTURE(png_bits), PICTURE_PNG, 12, 10, 1},
        {PICTURE(png_gray16), PICTURE_PNG, 12, 10, 1},
        {PICTURE(png_rgb16), PICTURE_PNG, 12, 10, 1},
        {PICTURE(webp_lossless), PICTURE_WEBP, 12, 10, 1},
        {PICTURE(webp_lossy), PICTURE_WEBP, 24, 20, 1},
        {PICTURE(jpeg_baseline), PICTURE_JPEG, 24, 20, 1},
        {PICTURE(jpeg_progressive), PICTURE_JPEG, 24, 20, 1},
        {PICTURE(jpeg_gray), PICTURE_JPEG, 24, 20, 1},
        {PICTURE(jpeg_turned), PICTURE_JPEG, 24, 20, 6},
};

/* A copy on the heap of exactly n bytes, so that AddressSanitizer sees a read beyond. */
static int sniff_copy(const uint8_t *data, size_t n, Sniffed *ret, Err *err) {
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, data, n);
    int r = sniff_picture(copy, n, ret, err);
    free(copy);
    return r;
}

static void headers_are_read(void **state) {
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        Sniffed s;
        Err err = {0};
        int r = sniff_copy(good[i].data, good[i].n, &s, &err);
        if (r < 0)
            fail_msg("%s: %s", good[i].name, err_text(&err));
        assert_int_equal(s.kind, good[i].kind);
        assert_int_equal(s.width, good[i].width);
        assert_int_equal(s.height, good[i].height);
        assert_int_equal(s.orientation, good[i].orientation);
    }
}

static void every_cut_is_noticed(void **state) {
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        for (size_t n = 0; n < good[i].n; n++) {
            Sniffed s;
            Err err = {0};
            if (sniff_copy(good[i].data, n, &s, &err) != -EBADMSG)
                fail_msg("%s cut to %zu of %zu bytes was taken", good[i].name, n, good[i].n);
            assert_true(err.text[0]);
        }
}

static void any_byte_may_be_wrong(void **state) {
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint8_t copy[2048];
        assert_true(good[i].n <= sizeof(copy));
        for (size_t at = 0; at < good[i].n; at++)
            for (int bit = 0; bit < 8; bit++) {
                Sniffed s;
                Err err = {0};
                memcpy(copy, good[i].data, good[i].n);
                copy[at] ^= (uint8_t)(1 << bit);
                int r = sniff_copy(copy, good[i].n, &s, &err);
                assert_true(r == 0 || r == -EBADMSG);
                if (r == 0)
                    assert_true(s.width > 0 && s.height > 0 && s.orientation >= 1 &&
                                s.orientation <= 8);
            }
    }
}

static void refusals_say_why(void **state) {
    static const uint8_t gif[] = "GIF89a....................";
    static const struct {
        const uint8_t *data;
        size_t n;
        const char *sentence;
    } bad[] = {
            {gif, sizeof(gif), "the picture's 27 bytes are no PNG, JPEG or WebP"},
            {gif, 0, "the picture's 0 bytes are no PNG, JPEG or WebP"},
            {jpeg_cmyk, sizeof(jpeg_cmyk),
                    "the JPEG has 4 components of 8 bits; 1 or 3 of 8 bits are read"},
            {webp_animated, sizeof(webp_animated),
                    "the WebP is an animation; a still picture is wanted"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Sniffed s;
        Err err = {0};
        assert_int_equal(sniff_copy(bad[i].data, bad[i].n, &s, &err), -EBADMSG);
        assert_string_equal(err_text(&err), bad[i].sentence);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(headers_are_read),
            cmocka_unit_test(every_cut_is_noticed),
            cmocka_unit_test(any_byte_may_be_wrong),
            cmocka_unit_test(refusals_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
