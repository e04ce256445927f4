#include "test.h"

#include "backend/cpu/module.h"
#include "base/macro.h"
#include "model/guidance.h"
#include "tiny.h"

#include <errno.h>
#include <math.h>

enum { T = 3, H = 6, W = 10, C = 16, TOKENS = T * (H / 2) * (W / 2), ROW = TOKENS / T };
enum { N = C * T * H * W, TEXT = 64 };

typedef struct Fixture {
    Tiny tiny;
    ModelDims dims;
    Backend *backend;
    Stream *stream;
    Dit *dit;
    float x[N];
    float rows[TEXT_ROWS * TEXT];
} Fixture;

static void fill(float *x, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
}

static Fixture *open_fixture(void) {
    Fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    tiny_open(&f->tiny, NULL);
    assert_int_equal(dims_read(f->tiny.checkpoint, &f->dims, NULL), 0);
    assert_int_equal(
            backend_open(&backend_cpu, &(BackendOptions){.n_threads = 2}, &f->backend, NULL), 0);
    assert_int_equal(stream_new(f->backend, 32 << 20, &f->stream, NULL), 0);
    assert_int_equal(dit_new(f->tiny.checkpoint, &f->dims.dit, &f->dit, NULL), 0);
    assert_int_equal(weights_load(dit_weights(f->dit), f->stream, 0, NULL), 0);
    fill(f->x, N, 1);
    fill(f->rows, TEXT_ROWS * TEXT, 2);
    return f;
}

static void close_fixture(Fixture *f) {
    dit_free(f->dit);
    stream_free(f->stream);
    backend_free(f->backend);
    tiny_close(&f->tiny);
    free(f);
}

static View upload(Stream *s, View host) {
    View v = stream_temp_of(s, host.dtype, host.rank, host.dim);
    stream_upload(s, v, host);
    return v;
}

typedef struct Pass {
    const DitRun *runs;
    int64_t n_runs;
    int n_contexts, n_forwards;
    int64_t n_rows[2]; /* of the prompts */
} Pass;

static void forward(Fixture *f, Stream *s, const Pass *p, float **y) {
    size_t mark = stream_mark(s);
    DitContext context[2];
    DitForward d = {
            .x = upload(s, view_of(f->x, DTYPE_F32, C, T, H, W)),
            .rope = dit_rope(s, f->dit, T, H, W),
            .runs = p->runs,
            .n_runs = p->n_runs,
            .n_contexts = p->n_contexts,
    };
    for (int i = 0; i < p->n_contexts; i++) {
        View rows = upload(s, view_of(f->rows, DTYPE_F32, p->n_rows[i], TEXT));
        dit_context(s, f->dit, rows, &context[i], NULL);
        d.context[i] = &context[i];
        d.y[i] = stream_temp(s, DTYPE_F32, C, T, H, W);
    }
    for (int i = 0; i < p->n_forwards; i++)
        dit_forward(s, f->dit, &d);
    for (int i = 0; i < p->n_contexts; i++)
        stream_download(s, view_of(y[i], DTYPE_F32, C, T, H, W), d.y[i]);
    stream_release(s, mark);
    assert_int_equal(stream_finish(s, NULL), 0);
}

static const DitRun one_run[] = {{TOKENS, 700}};

/* Two prompts together, with the work they share, give what each gives alone; so does a second pass
 * with keys and values kept from the first. */
static void sharing_changes_no_byte(void **state) {
    Fixture *f = open_fixture();
    static float a[N], b[N], c[N], d[N];
    forward(f, f->stream, &(Pass){one_run, 1, 2, 1, {9, 4}}, (float *[]){a, b});
    forward(f, f->stream, &(Pass){one_run, 1, 1, 1, {9}}, (float *[]){c});
    forward(f, f->stream, &(Pass){one_run, 1, 1, 2, {4}}, (float *[]){d});
    assert_memory_equal(a, c, sizeof(a));
    assert_memory_equal(b, d, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    close_fixture(f);
}

/* Where one timestep ends and the same begins again must not show. */
static void runs_of_equal_timesteps(void **state) {
    static const DitRun split[] = {{1, 700}, {TOKENS - 8, 700}, {7, 700}};
    static const DitRun first[] = {{ROW, 0}, {TOKENS - ROW, 700}};
    Fixture *f = open_fixture();
    static float a[N], b[N], c[N];
    forward(f, f->stream, &(Pass){one_run, 1, 1, 1, {9}}, (float *[]){a});
    forward(f, f->stream, &(Pass){split, 3, 1, 1, {9}}, (float *[]){b});
    forward(f, f->stream, &(Pass){first, 2, 1, 1, {9}}, (float *[]){c});
    assert_memory_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, c, sizeof(a));
    close_fixture(f);
}

/* One key with ln(512 - n) on its score against 512 - n keys: the same sums in another order, a
 * few f32 roundings apart. */
static void one_key_stands_for_the_padding(void **state) {
    Fixture *f = open_fixture();
    static float a[N], b[N];
    memset(f->rows + 9 * TEXT, 0, sizeof(f->rows) - 9 * TEXT * sizeof(float));
    forward(f, f->stream, &(Pass){one_run, 1, 1, 1, {9}}, (float *[]){a});
    forward(f, f->stream, &(Pass){one_run, 1, 1, 1, {TEXT_ROWS}}, (float *[]){b});
    double square = 0, norm = 0;
    for (size_t i = 0; i < N; i++) {
        square += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    assert_true(sqrt(square / norm) < 2e-6);
    forward(f, f->stream, &(Pass){one_run, 1, 1, 1, {TEXT_ROWS - 1}}, (float *[]){a});
    assert_memory_equal(a, b, sizeof(a));
    close_fixture(f);
}

static void planning_finds_the_workspace(void **state) {
    Fixture *f = open_fixture();
    Stream *plan, *exact;
    static float a[N], b[N];
    Pass p = {one_run, 1, 2, 2, {9, 4}};
    assert_int_equal(stream_new_planning(f->backend, &plan, NULL), 0);
    forward(f, plan, &p, (float *[]){a, b});
    assert_int_equal(stream_new(f->backend, stream_peak(plan), &exact, NULL), 0);
    forward(f, exact, &p, (float *[]){a, b});
    assert_int_equal(stream_peak(exact), stream_peak(plan));
    stream_free(plan);
    stream_free(exact);
    close_fixture(f);
}

/* Head size 32: 12 features turn with the frame, 10 each with row and column. */
static void rotary_table(void **state) {
    Fixture *f = open_fixture();
    View rope = dit_rope(f->stream, f->dit, T, H, W);
    static float table[TOKENS * 16 * 2];
    stream_download(f->stream, view_of(table, DTYPE_F32, TOKENS, 16, 2), rope);
    assert_int_equal(stream_finish(f->stream, NULL), 0);
    for (int64_t i = 0; i < TOKENS; i++) {
        int64_t x = i % (W / 2), y = i / (W / 2) % (H / 2), t = i / ROW;
        const float *row = table + i * 32;
        for (int64_t j = 0; j < 16; j++) { /* 6 pairs of time, 5 of rows, 5 of columns */
            double angle = j < 6    ? (double)t * pow(1e4, -2.0 * (double)j / 12)
                           : j < 11 ? (double)y * pow(1e4, -2.0 * (double)(j - 6) / 10)
                                    : (double)x * pow(1e4, -2.0 * (double)(j - 11) / 10);
            assert_true(fabs((double)row[2 * j] - cos(angle)) < 1e-7);
            assert_true(fabs((double)row[2 * j + 1] - sin(angle)) < 1e-7);
        }
    }
    close_fixture(f);
}

static void shapes_are_refused(void **state) {
    static const DitDims d = {.patch = 2, .rope_max = 1024};
    static const struct {
        int64_t t, h, w;
        const char *sentence;
    } cases[] = {
            {0, 2, 2, "latents of 0 frames of 2x2 do not divide into patches of 2x2"},
            {1, 3, 2, "latents of 1 frames of 2x3 do not divide into patches of 2x2"},
            {1, 2, 5, "latents of 1 frames of 5x2 do not divide into patches of 2x2"},
            {1025, 2, 2,
                    "latents of 1025 frames of 1x1 patches exceed the 1024 positions of an "
                    "axis"},
            {1, 2, 2050,
                    "latents of 1 frames of 1025x1 patches exceed the 1024 positions of an "
                    "axis"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        assert_int_equal(dit_check_shape(&d, cases[i].t, cases[i].h, cases[i].w, &err), -EINVAL);
        assert_string_equal(err_text(&err), cases[i].sentence);
    }
    assert_int_equal(dit_check_shape(&d, 1024, 2048, 2, NULL), 0);
}

/* A given first frame is read and written, x is left alone, and its own noise does not matter. */
static void given_first_frame(void **state) {
    Fixture *f = open_fixture();
    Stream *s = f->stream;
    static float first[C * H * W], v[2][N], finished[N];
    fill(first, C * H * W, 3);
    DitContext context[2];
    dit_context(s, f->dit, upload(s, view_of(f->rows, DTYPE_F32, 5, TEXT)), &context[0], NULL);
    dit_context(s, f->dit, upload(s, view_of(f->rows, DTYPE_F32, 1, TEXT)), &context[1], NULL);
    Guidance g = {
            .dit = f->dit,
            .rope = dit_rope(s, f->dit, T, H, W),
            .prompt = &context[0],
            .negative = &context[1],
            .scale = 4,
            .first = upload(s, view_of(first, DTYPE_F32, C, 1, H, W)),
    };
    View dv = stream_temp(s, DTYPE_F32, C, T, H, W);
    for (int i = 0; i < 2; i++) {
        for (int64_t c = 0; i > 0 && c < C; c++)
            fill(f->x + c * T * H * W, H * W, 9); /* the noise under the first frame */
        View x = upload(s, view_of(f->x, DTYPE_F32, C, T, H, W));
        guidance_velocity(s, &g, dv, x, 500, NULL);
        stream_download(s, view_of(v[i], DTYPE_F32, C, T, H, W), dv);
        stream_download(s, view_of(finished, DTYPE_F32, C, T, H, W), x);
        assert_int_equal(stream_finish(s, NULL), 0);
        assert_memory_equal(finished, f->x, sizeof(f->x));
        guidance_finish(s, &g, x);
        stream_download(s, view_of(finished, DTYPE_F32, C, T, H, W), x);
        assert_int_equal(stream_finish(s, NULL), 0);
    }
    assert_memory_equal(v[0], v[1], sizeof(v[0]));
    for (int64_t c = 0; c < C; c++) {
        assert_memory_equal(finished + c * T * H * W, first + c * H * W, H * W * sizeof(float));
        assert_memory_equal(finished + c * T * H * W + H * W, f->x + c * T * H * W + H * W,
                (T - 1) * H * W * sizeof(float));
    }
    close_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(sharing_changes_no_byte),
            cmocka_unit_test(runs_of_equal_timesteps),
            cmocka_unit_test(one_key_stands_for_the_padding),
            cmocka_unit_test(planning_finds_the_workspace),
            cmocka_unit_test(rotary_table),
            cmocka_unit_test(shapes_are_refused),
            cmocka_unit_test(given_first_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
