#include "test.h"

#include "base/clock.h"
#include "media/picture.h"
#include "pictures.h"
#include "running.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const PictureOptions options = {
        .program = PREHEAT_MEDIA,
        .width = 12,
        .height = 10,
        .max_pixels = 1 << 20,
        .timeout_usec = 20 * USEC_PER_SEC,
};

static void png_comes_back_exactly(void **state) {
    uint8_t rgb[12 * 10 * 3];
    Err err = {0};
    if (picture_decode(&options, png_rgb, sizeof(png_rgb), rgb, &err) < 0)
        fail_msg("%s", err_text(&err));
    for (int y = 0; y < 10; y++)
        for (int x = 0; x < 12; x++) {
            const uint8_t *p = rgb + (y * 12 + x) * 3;
            assert_int_equal(p[0], 20 * x % 256);
            assert_int_equal(p[1], 25 * y % 256);
            assert_int_equal(p[2], 11 * (x + y) % 256);
        }
}

static void every_kind_arrives_at_the_wanted_size(void **state) {
    static const struct {
        const uint8_t *data;
        size_t n;
    } kinds[] = {{png_palette, sizeof(png_palette)}, {jpeg_baseline, sizeof(jpeg_baseline)},
            {jpeg_progressive, sizeof(jpeg_progressive)}, {webp_lossy, sizeof(webp_lossy)},
            {webp_lossless, sizeof(webp_lossless)}, {jpeg_turned, sizeof(jpeg_turned)}};
    PictureOptions o = options;
    o.width = 1280;
    o.height = 704;
    uint8_t *rgb = malloc(1280 * 704 * 3);
    assert_non_null(rgb);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        Err err = {0};
        if (picture_decode(&o, kinds[i].data, kinds[i].n, rgb, &err) < 0)
            fail_msg("%zu: %s", i, err_text(&err));
    }
    free(rgb);
}

static void garbage_is_refused(void **state) {
    uint8_t rgb[12 * 10 * 3], noise[4096];
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)(i * i * 131 >> 5);
    Err err = {0};
    assert_int_equal(picture_decode(&options, noise, sizeof(noise), rgb, &err), -EBADMSG);
    assert_string_equal(
            err_text(&err), "preheat-media: the picture's 4096 bytes are no PNG, JPEG or WebP");
    assert_int_equal(picture_decode(&options, noise, 0, rgb, NULL), -EBADMSG);
    assert_int_equal(picture_decode(&options, jpeg_baseline, sizeof(jpeg_baseline) / 2, rgb, NULL),
            -EBADMSG);
    /* The signature of a PNG, then noise. */
    memcpy(noise, png_rgb, 8);
    assert_int_equal(picture_decode(&options, noise, sizeof(noise), rgb, NULL), -EBADMSG);
}

/* A header that promises 100000 x 100000 pixels: refused by it, long before 30 GB are wanted. */
static void bomb_is_refused_by_its_header(void **state) {
    uint8_t bomb[sizeof(png_rgb)], rgb[12 * 10 * 3];
    memcpy(bomb, png_rgb, sizeof(bomb));
    static const uint8_t side[] = {0x00, 0x01, 0x86, 0xa0};
    memcpy(bomb + 16, side, 4);
    memcpy(bomb + 20, side, 4);
    uint64_t start = clock_usec();
    Err err = {0};
    assert_int_equal(picture_decode(&options, bomb, sizeof(bomb), rgb, &err), -EFBIG);
    assert_string_equal(err_text(&err),
            "preheat-media: the picture has 100000x100000 pixels, at most 1048576 are decoded");
    assert_true(clock_usec() - start < 5 * USEC_PER_SEC);
}

static uint32_t crc32_of(const uint8_t *p, size_t n) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* With a limit that lets a bomb of 768 MB in, memory is what stops it. */
static void memory_is_limited(void **state) {
#ifdef __SANITIZE_ADDRESS__
    skip();
#endif
    uint8_t bomb[sizeof(png_rgb)], rgb[12 * 10 * 3];
    memcpy(bomb, png_rgb, sizeof(bomb));
    static const uint8_t side[] = {0x00, 0x00, 0x3e, 0x80};
    memcpy(bomb + 16, side, 4);
    memcpy(bomb + 20, side, 4);
    uint32_t crc = crc32_of(bomb + 12, 17);
    for (int i = 0; i < 4; i++)
        bomb[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    PictureOptions o = options;
    o.max_pixels = INT64_MAX;
    o.memory_limit_bytes = 512 << 20;
    Err err = {0};
    assert_int_equal(picture_decode(&o, bomb, sizeof(bomb), rgb, &err), -ENOMEM);
    assert_string_equal(err_text(&err), "preheat-media: the PNG of 16000x16000 pixels needs more "
                                        "memory than is allowed");
}

static void bad_options_are_refused(void **state) {
    uint8_t rgb[12 * 10 * 3];
    PictureOptions o = options;
    o.width = 0;
    assert_int_equal(picture_decode(&o, png_rgb, sizeof(png_rgb), rgb, NULL), -EINVAL);
    o = options;
    o.program = "/nowhere/preheat-media";
    assert_int_equal(picture_decode(&o, png_rgb, sizeof(png_rgb), rgb, NULL), -ENOENT);
    /* A program that ends at once, without a word and without pixels. */
    o.program = "/bin/true";
    Err err = {0};
    assert_int_equal(picture_decode(&o, png_rgb, sizeof(png_rgb), rgb, &err), -EPIPE);
    assert_string_equal(err_text(&err), "preheat-media gave 0 of 360 bytes");
    o.program = "/bin/false";
    err_clear(&err);
    assert_int_equal(picture_decode(&o, png_rgb, sizeof(png_rgb), rgb, &err), -EPIPE);
    assert_string_equal(err_text(&err), "preheat-media ended with status 1 and gave no reason");
}

static void slow_child_is_an_error(void **state) {
    uint8_t rgb[12 * 10 * 3];
    PictureOptions o = options;
    o.timeout_usec = 0;
    Err err = {0};
    assert_int_equal(picture_decode(&o, png_rgb, sizeof(png_rgb), rgb, &err), -ETIMEDOUT);
    assert_string_equal(
            err_text(&err), "preheat-media did not decode the picture in the time allowed");
    assert_int_equal(running_child(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(png_comes_back_exactly),
            cmocka_unit_test(every_kind_arrives_at_the_wanted_size),
            cmocka_unit_test(garbage_is_refused),
            cmocka_unit_test(bomb_is_refused_by_its_header),
            cmocka_unit_test(memory_is_limited),
            cmocka_unit_test(bad_options_are_refused),
            cmocka_unit_test(slow_child_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
