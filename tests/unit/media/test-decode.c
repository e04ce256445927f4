#include "test.h"

#include "media/codec/decode.h"
#include "pictures.h"

#include <errno.h>
#include <libavutil/log.h>
#include <stdlib.h>
#include <string.h>

static void pattern(int64_t x, int64_t y, uint8_t rgb[3]) {
    rgb[0] = (uint8_t)(20 * x);
    rgb[1] = (uint8_t)(25 * y);
    rgb[2] = (uint8_t)(11 * (x + y));
}

static void gray(int64_t x, int64_t y, uint8_t rgb[3]) {
    memset(rgb, (uint8_t)(20 * x), 3);
}

static void bits(int64_t x, int64_t y, uint8_t rgb[3]) {
    memset(rgb, (uint8_t)(20 * x) > 127 ? 255 : 0, 3);
}

static void smooth(int64_t x, int64_t y, uint8_t rgb[3]) {
    rgb[0] = (uint8_t)(8 * x);
    rgb[1] = (uint8_t)(8 * y);
    rgb[2] = (uint8_t)(255 - 4 * (x + y));
}

/* Orientation 6: the stored picture is to be turned a quarter to the right; 20 rows. */
static void smooth_turned(int64_t x, int64_t y, uint8_t rgb[3]) {
    smooth(y, 19 - x, rgb);
}

/* BT.601 luma of the smooth picture, as the JPEG standard rounds it. */
static void smooth_gray(int64_t x, int64_t y, uint8_t rgb[3]) {
    uint8_t p[3];
    smooth(x, y, p);
    memset(rgb, (int)(0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] + 0.5), 3);
}

#define PICTURE(name) #name, name, sizeof(name)

/* Lossy kinds: quality 90 quantises these coefficients by at most 12 at the lowest frequencies,
 * whose amplitude per pixel is an eighth; chroma at half resolution adds a step of the gradient
 * (8) at edges. Measured: 14 at most, mean 2.0. */
static const struct {
    const char *name;
    const uint8_t *data;
    size_t n;
    int64_t width, height;
    void (*expected)(int64_t x, int64_t y, uint8_t rgb[3]);
    int limit;
    double mean_limit;
} cases[] = {
        {PICTURE(png_rgb), 12, 10, pattern, 0, 0},
        {PICTURE(png_rgba), 12, 10, pattern, 0, 0},
        {PICTURE(png_palette), 12, 10, pattern, 0, 0},
        {PICTURE(png_rgb16), 12, 10, pattern, 0, 0},
        {PICTURE(png_gray), 12, 10, gray, 0, 0},
        {PICTURE(png_gray16), 12, 10, gray, 0, 0},
        {PICTURE(png_bits), 12, 10, bits, 0, 0},
        {PICTURE(webp_lossless), 12, 10, pattern, 0, 0},
        {PICTURE(webp_lossy), 24, 20, smooth, 20, 3},
        {PICTURE(jpeg_baseline), 24, 20, smooth, 20, 3},
        {PICTURE(jpeg_progressive), 24, 20, smooth, 20, 3},
        {PICTURE(jpeg_gray), 24, 20, smooth_gray, 5, 1.5},
        {PICTURE(jpeg_turned), 20, 24, smooth_turned, 20, 3},
};

static void pixels_are_right(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Decoded d = {0};
        Err err = {0};
        if (decode_picture(cases[i].data, cases[i].n, 1000, &d, &err) < 0)
            fail_msg("%s: %s", cases[i].name, err_text(&err));
        assert_int_equal(d.width, cases[i].width);
        assert_int_equal(d.height, cases[i].height);
        int worst = 0;
        double sum = 0;
        for (int64_t y = 0; y < d.height; y++)
            for (int64_t x = 0; x < d.width; x++) {
                uint8_t want[3];
                cases[i].expected(x, y, want);
                for (int c = 0; c < 3; c++) {
                    int off = abs(d.rgb[(y * d.width + x) * 3 + c] - want[c]);
                    worst = off > worst ? off : worst;
                    sum += off;
                }
            }
        double mean = sum / (double)(d.width * d.height * 3);
        if (worst > cases[i].limit || mean > cases[i].mean_limit)
            fail_msg("%s: off by %d at most, %.2f on average, allowed %d and %.2f", cases[i].name,
                    worst, mean, cases[i].limit, cases[i].mean_limit);
        decoded_done(&d);
    }
}

/* The byte that holds the orientation, found by its tag: 0x0112, SHORT, one. */
static size_t orientation_byte(const uint8_t *data, size_t n) {
    static const uint8_t little[] = {0x12, 0x01, 3, 0, 1, 0, 0, 0};
    static const uint8_t big[] = {0x01, 0x12, 0, 3, 0, 0, 0, 1};
    for (size_t at = 0; at + 10 <= n; at++) {
        if (memcmp(data + at, little, 8) == 0)
            return at + 8;
        if (memcmp(data + at, big, 8) == 0)
            return at + 9;
    }
    fail_msg("no orientation");
    return 0;
}

/* Where the stored top left pixel (dark red, dark green, full blue) and the stored top right one
 * (full red) are seen, as the EXIF standard draws it. */
static void all_orientations(void **state) {
    static const struct {
        int x, y;             /* of the stored top left: 1 means at the right, at the bottom */
        int right_x, right_y; /* of the stored top right */
    } where[9] = {{0}, {0, 0, 1, 0}, {1, 0, 0, 0}, {1, 1, 0, 1}, {0, 1, 1, 1}, {0, 0, 0, 1},
            {1, 0, 1, 1}, {1, 1, 1, 0}, {0, 1, 0, 0}};
    uint8_t copy[sizeof(jpeg_turned)];
    memcpy(copy, jpeg_turned, sizeof(copy));
    size_t at = orientation_byte(copy, sizeof(copy));
    for (int orientation = 1; orientation <= 8; orientation++) {
        copy[at] = (uint8_t)orientation;
        Decoded d = {0};
        assert_int_equal(decode_picture(copy, sizeof(copy), 1000, &d, NULL), 0);
        assert_int_equal(d.width, orientation >= 5 ? 20 : 24);
        int64_t x = where[orientation].x ? d.width - 1 : 0;
        int64_t y = where[orientation].y ? d.height - 1 : 0;
        const uint8_t *p = d.rgb + (y * d.width + x) * 3;
        assert_true(p[0] < 40 && p[1] < 40 && p[2] > 215);
        x = where[orientation].right_x ? d.width - 1 : 0;
        y = where[orientation].right_y ? d.height - 1 : 0;
        p = d.rgb + (y * d.width + x) * 3;
        assert_true(p[0] > 150 && p[1] < 40);
        decoded_done(&d);
    }
}

static void damage_is_refused(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t copy[2048];
        for (size_t at = 0; at < cases[i].n; at += 3) {
            Decoded d = {0};
            memcpy(copy, cases[i].data, cases[i].n);
            copy[at] ^= 0x55;
            int r = decode_picture(copy, cases[i].n, 1000, &d, NULL);
            if (r != 0 && r != -EBADMSG && r != -EFBIG && r != -ENOMEM)
                fail_msg("%s, byte %zu: %d", cases[i].name, at, r);
            decoded_done(&d);
        }
    }
    /* Every byte of picture data in a PNG is under a checksum. */
    uint8_t copy[sizeof(png_rgb)];
    memcpy(copy, png_rgb, sizeof(copy));
    copy[sizeof(copy) - 20] ^= 1;
    Decoded d = {0};
    assert_int_equal(decode_picture(copy, sizeof(copy), 1000, &d, NULL), -EBADMSG);
}

static void too_many_pixels(void **state) {
    Decoded d = {0};
    Err err = {0};
    assert_int_equal(decode_picture(png_rgb, sizeof(png_rgb), 119, &d, &err), -EFBIG);
    assert_string_equal(err_text(&err), "the picture has 12x10 pixels, at most 119 are decoded");
}

int main(void) {
    av_log_set_level(AV_LOG_QUIET);
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(pixels_are_right),
            cmocka_unit_test(all_orientations),
            cmocka_unit_test(damage_is_refused),
            cmocka_unit_test(too_many_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
