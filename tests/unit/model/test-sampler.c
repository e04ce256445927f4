#include "test.h"

#include "backend/cpu/module.h"
#include "base/macro.h"
#include "model/sampler.h"

#include <errno.h>
#include <math.h>

static Sampler *make(SamplerKind kind, SigmaGrid grid, int64_t n, double shift) {
    Sampler *p = NULL;
    SamplerOptions o = {.kind = kind, .grid = grid, .n_steps = n, .shift = shift, .n_train = 1000};
    assert_int_equal(sampler_new(&o, &p, NULL), 0);
    return p;
}

/* Levels to seven digits, as the model's description tabulates them for shift 5 and 4 steps. */
static void noise_levels(void **state) {
    static const struct {
        SamplerKind kind;
        SigmaGrid grid;
        double sigma[5];
        int timestep[4];
    } cases[] = {
            {SAMPLER_UNIPC, SIGMAS_OFFICIAL, {0.9997998, 0.9372655, 0.8330554, 0.6246874, 0},
                    {999, 937, 833, 624}},
            {SAMPLER_UNIPC, SIGMAS_DIFFUSERS, {0.9999990, 0.9375781, 0.8336110, 0.6259361, 0},
                    {999, 937, 833, 625}},
            {SAMPLER_EULER, SIGMAS_OFFICIAL, {0.9997998, 0.9372655, 0.8330554, 0.6246874, 0},
                    {999, 937, 833, 624}},
            {SAMPLER_EULER, SIGMAS_DIFFUSERS, {1.0, 0.9097071, 0.7173175, 0.0244141, 0},
                    {1000, 909, 717, 24}},
    };
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        Sampler *p = make(cases[k].kind, cases[k].grid, 4, 5);
        for (int64_t i = 0; i <= 4; i++)
            assert_true(fabs(sampler_sigma(p, i) - cases[k].sigma[i]) < 1e-7);
        for (int64_t i = 0; i < 4; i++)
            assert_int_equal((int)sampler_timestep(p, i), cases[k].timestep[i]);
        sampler_free(p);
    }
}

static void timesteps(void **state) {
    static const int official[] = {999, 995, 991, 987, 982, 978, 973, 968, 963, 957, 952, 946, 940,
            934, 927, 920, 913, 906, 898, 890, 882, 873, 863, 854, 843, 833, 821, 809, 796, 783,
            768, 753, 737, 720, 701, 681, 660, 636, 611, 584, 555, 522, 487, 448, 405, 356, 302,
            241, 172, 92};
    static const int diffusers[] = {999, 995, 991, 987, 982, 978, 973, 968, 963, 957, 952, 946, 940,
            934, 927, 921, 914, 906, 899, 890, 882, 873, 864, 854, 844, 833, 822, 810, 797, 783,
            769, 754, 738, 720, 702, 682, 661, 638, 613, 586, 556, 524, 489, 450, 407, 359, 305,
            244, 175, 96};
    Sampler *o = make(SAMPLER_UNIPC, SIGMAS_OFFICIAL, 50, 5);
    Sampler *d = make(SAMPLER_UNIPC, SIGMAS_DIFFUSERS, 50, 5);
    for (int64_t i = 0; i < 50; i++) {
        assert_true(sampler_timestep(o, i) == (double)official[i]);
        assert_true(sampler_timestep(d, i) == (double)diffusers[i]);
    }
    sampler_free(o);
    sampler_free(d);
}

/* x of one value through all steps of v = sin(i + 1) + x / 10, from x = 1. */
static double run_scalar(SigmaGrid grid, int64_t n, double *each) {
    Backend *b = NULL;
    Stream *s = NULL;
    assert_int_equal(backend_open(&backend_cpu, &(BackendOptions){.n_threads = 1}, &b, NULL), 0);
    assert_int_equal(stream_new(b, 1 << 16, &s, NULL), 0);
    Sampler *p = make(SAMPLER_UNIPC, grid, n, 5);
    float x = 1, v;
    View hx = view_of(&x, DTYPE_F32, 1, 1, 1, 1), hv = view_of(&v, DTYPE_F32, 1, 1, 1, 1);
    View dx = stream_temp(s, DTYPE_F32, 1, 1, 1, 1), dv = stream_temp(s, DTYPE_F32, 1, 1, 1, 1);
    sampler_begin(p, s, dx);
    stream_upload(s, dx, hx);
    for (int64_t i = 0; i < n; i++) {
        v = (float)(sin((double)i + 1) + 0.1 * (double)x);
        stream_upload(s, dv, hv);
        sampler_step(p, s, i, dx, dv);
        stream_download(s, hx, dx);
        assert_int_equal(stream_finish(s, NULL), 0);
        if (each)
            each[i] = (double)x;
    }
    sampler_free(p);
    stream_free(s);
    backend_free(b);
    return (double)x;
}

/* Values computed in double from the reference's general algorithm; here x is f32 and each step
 * rounds a few times by 6e-8 of values near 1: 2e-6 over fifty steps. */
static void unipc_scalar_run(void **state) {
    static const double x[] = {0.941125684, 0.834337663, 0.899332915, 1.315917687};
    double each[4];
    (void)run_scalar(SIGMAS_OFFICIAL, 4, each);
    for (size_t i = 0; i < 4; i++)
        assert_true(fabs(each[i] - x[i]) < 5e-7);
    assert_true(fabs(run_scalar(SIGMAS_OFFICIAL, 5, NULL) - 1.663731282) < 2e-6);
    assert_true(fabs(run_scalar(SIGMAS_OFFICIAL, 10, NULL) - 0.942198776) < 2e-6);
    assert_true(fabs(run_scalar(SIGMAS_OFFICIAL, 50, NULL) - 1.079035656) < 2e-6);
    assert_true(fabs(run_scalar(SIGMAS_DIFFUSERS, 4, NULL) - 1.317454771) < 2e-6);
    assert_true(fabs(run_scalar(SIGMAS_DIFFUSERS, 10, NULL) - 0.944411509) < 2e-6);
    assert_true(fabs(run_scalar(SIGMAS_DIFFUSERS, 50, NULL) - 1.077202149) < 2e-6);
}

/* One step lands on the data prediction x - sigma v; two steps are both of order one. */
static void few_steps(void **state) {
    double sigma = 0.9999990; /* of the first of one step */
    double v = sin(1.0) + 0.1;
    assert_true(fabs(run_scalar(SIGMAS_DIFFUSERS, 1, NULL) - (1 - sigma * v)) < 2e-7);
    assert_true(isfinite(run_scalar(SIGMAS_OFFICIAL, 2, NULL)));
}

static void refusals(void **state) {
    static const struct {
        int64_t n_steps;
        double shift;
        const char *sentence;
    } cases[] = {
            {0, 5, "0 steps, wanted are 1 to 1000"},
            {1001, 5, "1001 steps, wanted are 1 to 1000"},
            {4, 0, "a flow shift of 0, wanted is 0.01 to 100"},
            {4, 1e9, "a flow shift of 1e+09, wanted is 0.01 to 100"},
            {4, NAN, "a flow shift of nan, wanted is 0.01 to 100"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Sampler *p;
        Err err = {0};
        SamplerOptions o = {.n_steps = cases[i].n_steps, .shift = cases[i].shift, .n_train = 1000};
        assert_int_equal(sampler_new(&o, &p, &err), -EINVAL);
        assert_string_equal(err_text(&err), cases[i].sentence);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(noise_levels),
            cmocka_unit_test(timesteps),
            cmocka_unit_test(unipc_scalar_run),
            cmocka_unit_test(few_steps),
            cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
