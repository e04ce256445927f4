#include "test.h"

#include "backend/cpu/module.h"
#include "base/macro.h"
#include "model/noise.h"
#include "model/vae.h"
#include "store/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers against the reference are tests/golden's business; here: chunks, sizes, memory, refusals.
 */
typedef struct Fixture {
    Manifest *manifest;
    Checkpoint *checkpoint;
    Backend *backend;
    ModelDims dims;
    Vae *vae;
} Fixture;

static void ok(int r, const Err *err) {
    if (r < 0)
        fail_msg("%s", err_text(err));
}

static int setup(void **state) {
    static Fixture f;
    Err err = {0};
    ok(manifest_open(TINY_WAN, &f.manifest, &err), &err);
    ok(checkpoint_open_files(f.manifest, &f.checkpoint, &err), &err);
    ok(dims_read(f.checkpoint, &f.dims, &err), &err);
    ok(backend_open(&backend_cpu, &(BackendOptions){.n_threads = 2}, &f.backend, &err), &err);
    ok(vae_new(f.checkpoint, &f.dims.vae, &f.vae, &err), &err);
    Stream *s;
    ok(stream_new(f.backend, 0, &s, &err), &err);
    ok(weights_load(vae_weights(f.vae), s, 0, &err), &err);
    ok(stream_finish(s, &err), &err);
    stream_free(s);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    Fixture *f = *state;
    vae_free(f->vae);
    backend_free(f->backend);
    checkpoint_free(f->checkpoint);
    manifest_free(f->manifest);
    return 0;
}

typedef struct Shape {
    int64_t t, h, w; /* latent */
    VaeGrid grid;    /* to decode in */
} Shape;

#define WHOLE                                                                                      \
    { 1, 1 }
static const VaeGrid whole = WHOLE;

/* Gives the same work to a planning stream and to one with the workspace that the plan asks for. */
typedef void Work(Stream *s, const Fixture *f, Shape shape, int64_t chunk, float *y);

static void run(const Fixture *f, Work *work, Shape shape, int64_t chunk, float *y) {
    Err err = {0};
    Stream *plan, *s;
    ok(stream_new_planning(f->backend, &plan, &err), &err);
    work(plan, f, shape, chunk, y);
    ok(stream_finish(plan, &err), &err);
    ok(stream_new(f->backend, stream_peak(plan), &s, &err), &err);
    work(s, f, shape, chunk, y);
    ok(stream_finish(s, &err), &err);
    assert_int_equal(stream_peak(s), stream_peak(plan));
    assert_int_equal(stream_mark(s), stream_mark(plan));
    assert_int_equal(stream_mark_top(s), 0);
    stream_free(s);
    stream_free(plan);
}

static int64_t frame_values(const Fixture *f, Shape shape) {
    return shape.h * shape.w * f->dims.vae.stride_s * f->dims.vae.stride_s * 3;
}

/* y gets all frames as F32. */
static void decode(Stream *s, const Fixture *f, Shape shape, int64_t chunk, float *y) {
    const VaeDims *d = &f->dims.vae;
    View z = stream_temp(s, DTYPE_F32, d->latent, shape.t, shape.h, shape.w);
    float *noise = malloc(view_bytes(z));
    assert_non_null(noise);
    noise_fill(noise, view_count(z), 5, 0);
    stream_upload(s, z, view_make(noise, DTYPE_F32, z.rank, z.dim));
    free(noise);

    VaeDecoder decoder;
    vae_decoder_begin(s, f->vae, &decoder, z, VAE_NORMALISED, chunk, shape.grid);
    int64_t width = shape.w * d->stride_s, n_done = 0;
    for (VaePiece p; (p = vae_decoder_next(&decoder)).n > 0; n_done += p.n * p.h * p.w * 3) {
        size_t mark = stream_mark(s);
        View frames = stream_temp(s, DTYPE_F32, p.n, p.h, p.w, (int64_t)3);
        float *piece = malloc(view_bytes(frames));
        assert_non_null(piece);
        vae_decode_chunk(&decoder, frames);
        stream_download(s, view_make(piece, DTYPE_F32, frames.rank, frames.dim), frames);
        for (int64_t i = 0; i < p.n * p.h && !stream_is_planning(s); i++)
            memcpy(y + (p.frame + i / p.h) * frame_values(f, shape) +
                            ((p.y + i % p.h) * width + p.x) * 3,
                    piece + i * p.w * 3, (size_t)p.w * 3 * sizeof(*piece));
        free(piece);
        stream_release(s, mark);
    }
    assert_int_equal(n_done, vae_pixel_frames(d, shape.t) * frame_values(f, shape));
}

/* y gets the moments. */
static void encode(Stream *s, const Fixture *f, Shape shape, int64_t chunk, float *y) {
    const VaeDims *d = &f->dims.vae;
    View clip = stream_temp(s, DTYPE_F32, vae_pixel_frames(d, shape.t), shape.h * d->stride_s,
            shape.w * d->stride_s, (int64_t)3);
    float *pixels = malloc(view_bytes(clip));
    assert_non_null(pixels);
    noise_fill(pixels, view_count(clip), 6, 0);
    for (int64_t i = 0; i < view_count(clip); i++)
        pixels[i] = tanhf(pixels[i]);
    stream_upload(s, clip, view_make(pixels, DTYPE_F32, clip.rank, clip.dim));
    free(pixels);
    View moments = stream_temp(s, DTYPE_F32, 2 * d->latent, shape.t, shape.h, shape.w);
    vae_encode_moments(s, f->vae, moments, clip, chunk);
    stream_download(s, view_make(y, DTYPE_F32, moments.rank, moments.dim), moments);
}

static double relative(const float *a, const float *b, int64_t n) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += pow((double)a[i] - b[i], 2);
        size += pow(b[i], 2);
    }
    return sqrt(difference / size);
}

/* One latent frame at a time, as the reference does, and any other chunk give the same video. The
 * sums are the same, but a product's blocks may begin elsewhere: about sqrt(60) roundings of 2^-24
 * (one for each layer) is 5e-7. */
static void check_chunks(const Fixture *f, Work *work, Shape shape, int64_t n) {
    float *one = calloc((size_t)n, sizeof(*one)), *many = calloc((size_t)n, sizeof(*many));
    assert_true(one && many);
    run(f, work, shape, 1, one);
    for (int64_t i = 0; i < n; i++)
        assert_true(isfinite(one[i]));
    for (int64_t chunk = 2; chunk <= shape.t + 1; chunk++) {
        run(f, work, shape, chunk, many);
        assert_true(relative(many, one, n) < 1e-6);
    }
    free(one);
    free(many);
}

static const Shape shapes[] = {
        {1, 2, 2, WHOLE}, {2, 1, 1, WHOLE}, {3, 1, 3, WHOLE}, {5, 3, 2, WHOLE}, {4, 2, 5, WHOLE}};

static void chunks_decode_to_the_same(void **state) {
    const Fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        check_chunks(f, decode, shapes[i],
                vae_pixel_frames(&f->dims.vae, shapes[i].t) * frame_values(f, shapes[i]));
}

/* What lies around a tile matters within 14 latents of it, less at each level: here some tiles see
 * all of a frame, some a part of it at every level. Bounded as check_chunks(). A margin that is one
 * latent too small gives 0.06 at the last level, 3e-6 at the one before; what one position adds
 * through all the convolutions of three levels is lost in rounding. */
static void tiles_decode_to_the_same(void **state) {
    const Fixture *f = *state;
    static const struct {
        Shape shape;
        int64_t chunk;
    } cases[] = {
            {{2, 2, 2, {2, 2}}, 1},
            {{3, 3, 5, {1, 2}}, 1},
            {{3, 2, 40, {1, 3}}, 1},
            {{2, 37, 1, {2, 1}}, 2},
            {{3, 33, 35, {2, 3}}, 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Shape shape = cases[i].shape;
        int64_t n = vae_pixel_frames(&f->dims.vae, shape.t) * frame_values(f, shape);
        float *frames = calloc((size_t)n, sizeof(*frames));
        float *tiles = calloc((size_t)n, sizeof(*tiles));
        assert_true(frames && tiles);
        shape.grid = whole;
        run(f, decode, shape, 1, frames);
        run(f, decode, cases[i].shape, cases[i].chunk, tiles);
        double difference = relative(tiles, frames, n);
        if (!(difference < 1e-6))
            fail_msg("case %zu: %g", i, difference);
        free(frames);
        free(tiles);
    }
}

/* A planning stream tells without computing; frames of 640x352 here. */
static void tiles_take_less_memory(void **state) {
    const Fixture *f = *state;
    Err err = {0};
    size_t last = SIZE_MAX;
    for (int64_t cols = 1; cols <= 8; cols *= 2) {
        Stream *plan;
        ok(stream_new_planning(f->backend, &plan, &err), &err);
        decode(plan, f, (Shape){3, 44, 80, {1, cols}}, 1, NULL);
        ok(stream_finish(plan, &err), &err);
        assert_true(stream_peak(plan) < last);
        last = stream_peak(plan);
        stream_free(plan);
    }
}

static void chunks_encode_to_the_same(void **state) {
    const Fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        Shape s = shapes[i];
        check_chunks(f, encode, s, 2 * f->dims.vae.latent * s.t * s.h * s.w);
    }
}

/* The first frame's latents do not depend on what follows. */
static void encoding_is_causal(void **state) {
    const Fixture *f = *state;
    Shape s = {1, 2, 3, WHOLE};
    int64_t n = frame_values(f, s);
    float *one = calloc((size_t)n, sizeof(float)), *clip = calloc((size_t)n * 9, sizeof(float));
    assert_true(one && clip);
    run(f, encode, s, 1, one);
    run(f, encode, (Shape){3, 2, 3, WHOLE}, 1, clip);
    int64_t cells = s.h * s.w, m = 2 * f->dims.vae.latent;
    /* Clips of the same seed begin alike, moments [2 latent, t, h, w]. */
    for (int64_t c = 0; c < m; c++)
        for (int64_t i = 0; i < cells; i++)
            assert_true(fabsf(one[c * cells + i] - clip[c * 3 * cells + i]) <= 1e-5F);
    free(one);
    free(clip);
}

/* Encoded, decoded: the picture comes back, and the normalised latents are those of the moments. */
static void picture_survives(void **state) {
    const Fixture *f = *state;
    const VaeDims *d = &f->dims.vae;
    enum { SIDE = 128, VALUES = SIDE * SIDE * 3 };
    static uint8_t rgb[VALUES], back[VALUES];
    static float pixels[VALUES];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++) /* a red square on grey, as the model was trained on */
                rgb[(y * SIDE + x) * 3 + c] =
                        abs(x - 64) < 28 && abs(y - 64) < 28 ? (c == 0 ? 230 : 28) : 115;
    vae_pixels_from_u8(pixels, rgb, VALUES);
    assert_true(pixels[0] == (115.0F / 255 - 0.5F) / 0.5F);

    Err err = {0};
    Stream *s;
    ok(stream_new(f->backend, 64 << 20, &s, &err), &err);
    int64_t side = SIDE, cells = side / d->stride_s;
    View clip = stream_temp(s, DTYPE_F32, (int64_t)1, side, side, (int64_t)3);
    View z = stream_temp(s, DTYPE_F32, d->latent, (int64_t)1, cells, cells);
    View moments = stream_temp(s, DTYPE_F32, 2 * d->latent, (int64_t)1, cells, cells);
    View frames = stream_temp(s, DTYPE_U8, (int64_t)1, side, side, (int64_t)3);
    stream_upload(s, clip, view_make(pixels, DTYPE_F32, clip.rank, clip.dim));
    vae_encode(s, f->vae, z, clip, VAE_NORMALISED, 1);
    vae_encode_moments(s, f->vae, moments, clip, 1);
    VaeDecoder decoder;
    vae_decoder_begin(s, f->vae, &decoder, z, VAE_NORMALISED, 1, whole);
    vae_decode_chunk(&decoder, frames);
    assert_int_equal(vae_decoder_next(&decoder).n, 0);
    static float latents[VAE_MAX_LATENT * 64], raw[2 * VAE_MAX_LATENT * 64];
    stream_download(s, view_make(back, DTYPE_U8, frames.rank, frames.dim), frames);
    stream_download(s, view_make(latents, DTYPE_F32, z.rank, z.dim), z);
    stream_download(s, view_make(raw, DTYPE_F32, moments.rank, moments.dim), moments);
    ok(stream_finish(s, &err), &err);

    for (int64_t i = 0; i < view_count(z); i++) {
        int64_t c = i / (cells * cells);
        float expected = (raw[i] - d->mean[c]) / d->std[c];
        /* x a + b and (x - m) / s round in other places: a few of 2^-24 of the larger term. */
        assert_true(fabsf(latents[i] - expected) <= 1e-5F);
    }
    double error = 0;
    for (int i = 0; i < VALUES; i++)
        error += pow((double)back[i] - rgb[i], 2) / VALUES;
    assert_true(10 * log10(255 * 255 / error) >
                20); /* any trained model, on a picture like its clips */
    stream_free(s);
}

static void widths_that_do_not_divide_are_refused(void **state) {
    const Fixture *f = *state;
    VaeDims d = f->dims.vae;
    Vae *v = NULL;
    Err err = {0};
    d.mult[0] = 3;
    assert_int_equal(vae_new(f->checkpoint, &d, &v, &err), -EINVAL);
    assert_string_equal(err_text(&err),
            "vae: the widths 16 and 48 of encoder level 0 do not fit its shortcut: 64 is not a "
            "multiple of 48");
    err_clear(&err);
    d = f->dims.vae;
    d.base = 8; /* the files' own shapes say otherwise */
    assert_int_equal(vae_new(f->checkpoint, &d, &v, &err), -EBADMSG);
    assert_non_null(strstr(err_text(&err), "norm1.gamma"));
    assert_null(v);
}

static void weights_must_be_loaded(void **state) {
    const Fixture *f = *state;
    Vae *v;
    Stream *s;
    Err err = {0};
    ok(vae_new(f->checkpoint, &f->dims.vae, &v, &err), &err);
    ok(stream_new(f->backend, 16 << 20, &s, &err), &err);
    View z = stream_temp(s, DTYPE_F32, f->dims.vae.latent, (int64_t)1, (int64_t)1, (int64_t)1);
    VaeDecoder decoder;
    vae_decoder_begin(s, v, &decoder, z, VAE_NORMALISED, 1, whole);
    assert_int_equal(stream_finish(s, &err), -ENODATA);
    assert_string_equal(err_text(&err), "weights 'decoder' of vae are not loaded");
    stream_free(s);
    vae_free(v);
}

static void frames_are_counted(void **state) {
    const VaeDims d = {.stride_t = 4};
    static const int64_t cases[][2] = {
            {1, 1}, {4, 1}, {5, 2}, {17, 5}, {80, 20}, {81, 21}, {121, 31}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(vae_latent_frames(&d, cases[i][0]), cases[i][1]);
    assert_int_equal(vae_pixel_frames(&d, 1), 1);
    assert_int_equal(vae_pixel_frames(&d, 31), 121);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(frames_are_counted),
            cmocka_unit_test(chunks_decode_to_the_same),
            cmocka_unit_test(tiles_decode_to_the_same),
            cmocka_unit_test(tiles_take_less_memory),
            cmocka_unit_test(chunks_encode_to_the_same),
            cmocka_unit_test(encoding_is_causal),
            cmocka_unit_test(picture_survives),
            cmocka_unit_test(widths_that_do_not_divide_are_refused),
            cmocka_unit_test(weights_must_be_loaded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
