/* test-kernels [--bench] [--isa portable|avx2|avx512] [--threads N] [--seed N] [--every N] [OP...]
 * test-kernels --backend MODULE.so [--bench] [--exact] [--twice] [--seed N] [--every N] [OP...]
 *
 * Every operation x every variant this machine has x odd shapes against f64. Without --backend: the
 * CPU backend with each instruction set, on one thread and on three (which must give the same
 * bytes), or the one that --isa and --threads name. --exact asks a module for f32 activations,
 * --twice runs it twice, for the same bytes. --every takes each N-th case only, for slow tools
 * around it. Exits 0, 1 when a case failed, 77 when the machine has
 * not the device or the instruction set. */
#include "harness.h"

#ifndef KERNELS_WITHOUT_CPU
#include "backend/cpu/module.h"
#endif
#include "base/macro.h"
#include "base/str.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const Suite *const all_suites[] = {
        suites_linear, suites_norm, suites_attention, suites_conv, suites_vae, suites_element};

typedef struct Options {
    bool bench, exact, twice;
    Isa isa;
    int64_t n_threads, every;
    const char *module;
    uint64_t seed;
    char **ops;
    int n_ops;
} Options;

static bool is_wanted(const Options *o, const char *op) {
    for (int i = 0; i < o->n_ops; i++)
        if (str_eq(o->ops[i], op))
            return true;
    return o->n_ops == 0;
}

typedef struct PeakCall {
    View y, x, w;
    ConvArgs conv;
} PeakCall;

static void product_call(Stream *s, const void *context) {
    const PeakCall *c = context;
    op_linear(s, c->y, c->x, c->w, (View){0}, ACT_NONE);
}

static void conv_call(Stream *s, const void *context) {
    const PeakCall *c = context;
    op_conv(s, &c->conv);
}

static void copy_call(Stream *s, const void *context) {
    const PeakCall *c = context;
    op_copy(s, c->y, c->x);
}

static double product_flops(Test *t, int64_t n) {
    (void)case_begin(t, "product %" PRId64, n); /* never left out */
    PeakCall c = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, n, n)->view,
            .w = weight(t, "w", WEIGHT_MATRIX, t->act, n, n)->view,
            .y = tensor(t, "y", ROLE_OUT, t->act, DENSE, n, n)->view};
    double flops = 2.0 * (double)(n * n * n) / bench_time(t, product_call, &c);
    case_end(t);
    return flops;
}

static double conv_flops(Test *t, int64_t size, int64_t c) {
    (void)case_begin(t, "conv %" PRId64, size); /* never left out */
    PeakCall call = {.conv = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, 4, size, size, c)->view,
                             .y = tensor(t, "y", ROLE_OUT, t->act, DENSE, 4, size, size, c)->view,
                             .w = weight(t, "w", WEIGHT_CONV, t->act, c, c, 3, 3)->view,
                             .bias = weight(t, "bias", WEIGHT_VECTOR, t->act, c)->view,
                             .stride_t = 1,
                             .stride_s = 1,
                             .pad_lo = 1,
                             .pad_hi = 1}};
    double flops = 2.0 * 4 * 9 * (double)(size * size * c * c) / bench_time(t, conv_call, &call);
    case_end(t);
    return flops;
}

/* The backend's own best: a large product or a deep convolution; a copy of four times the usual
 * last-level cache. */
static void measure_peaks(Test *t) {
    const int64_t copy = 32 << 20;
    t->op = "peak";
    double product = product_flops(t, 2048), conv = conv_flops(t, 64, 128);
    t->peak_flops = MAX(product, conv);
    (void)case_begin(t, "copy"); /* never left out */
    PeakCall c = {.x = tensor(t, "x", ROLE_IN, t->act, DENSE, copy)->view,
            .y = tensor(t, "y", ROLE_OUT, t->act, DENSE, copy)->view};
    t->peak_bytes = 2.0 * (double)copy * (double)dtype_bytes(t->act) / bench_time(t, copy_call, &c);
    case_end(t);
    printf("peaks: %.1f GFLOP/s (product %.1f, conv %.1f), %.1f GB/s in a copy\n",
            t->peak_flops * 1e-9, product * 1e-9, conv * 1e-9, t->peak_bytes * 1e-9);
}

static void run_suites(Test *t, const Options *o) {
    for (size_t i = 0; i < ARRAY_LEN(all_suites); i++)
        for (const Suite *suite = all_suites[i]; suite->op; suite++) {
            if (!is_wanted(o, suite->op))
                continue;
            t->op = suite->op;
            t->n_shown = 0;
            t->n_begun = 0;
            int before = t->n_cases;
            t->random = o->seed ^ 0x9e3779b97f4a7c15;
            if (!o->bench)
                suite->check(t);
            else if (suite->bench)
                suite->bench(t);
            if (!o->bench)
                printf("%-18s %-24s %5d cases  %s\n", suite->op, t->variant, t->n_cases - before,
                        t->n_shown > 0 ? "WRONG" : "right");
        }
}

typedef struct Outcome {
    bool ran; /* false: the machine has not what was asked for */
    int n_failures;
    uint64_t digest; /* of every byte that the operations wrote */
} Outcome;

static Test test_init(Backend *b, Stream *s, const Options *o) {
    const BackendInfo *info = backend_info(b);
    bool narrow = info->activation != DTYPE_F32;
    return (Test){.backend = b,
            .stream = s,
            .act = info->activation,
            .u_act = narrow ? U_BF16 : U_F32,
            .u_mid = narrow ? U_BF16 : 0,
            .align = o->module ? 8 : 1,
            .any_address = !o->module,
            .variant = info->device,
            .every = o->bench ? 0 : o->every,
            .bench = o->bench};
}

static Outcome run_variant(
        const BackendModule *m, const BackendOptions *options, const Options *o) {
    Err err = {0};
    Backend *b;
    int r = backend_open(m, options, &b, &err);
    if (r == -ENOTSUP || r == -ENODEV) {
        printf("not run: %s\n", err_text(&err));
        return (Outcome){0};
    }
    Stream *s;
    if (r < 0 || (r = stream_new(b, 0, &s, &err)) < 0) {
        fprintf(stderr, "cannot open the backend: %s\n", err_text(&err));
        return (Outcome){.ran = true, .n_failures = 1};
    }
    Test t = test_init(b, s, o);
    printf("%s: %s\n", backend_info(b)->name, t.variant);
    if (o->bench)
        measure_peaks(&t);
    run_suites(&t, o);
    stream_free(s);
    backend_free(b);
    if (!o->bench)
        printf("%d cases, %d wrong\n", t.n_cases, t.n_failures);
    return (Outcome){true, t.n_failures, t.digest};
}

/* 1 and a line if two runs that must give the same bytes did not. */
static int compare_runs(const Outcome *a, const Outcome *b, const char *what) {
    if (!a->ran || !b->ran || a->digest == b->digest)
        return 0;
    fprintf(stderr, "%s: the same inputs gave other bytes\n", what);
    return 1;
}

#ifndef KERNELS_WITHOUT_CPU
static int run_cpu(const Options *o) {
    static const BackendOptions variants[] = {
            {.isa = ISA_PORTABLE, .n_threads = 1},
            {.isa = ISA_PORTABLE, .n_threads = 3},
            {.isa = ISA_AVX2, .n_threads = 1},
            {.isa = ISA_BEST, .n_threads = 1},
            {.isa = ISA_BEST, .n_threads = 3},
    };
    Outcome outcomes[ARRAY_LEN(variants)];
    int n_failures = 0;
    if (o->bench || o->isa != ISA_BEST || o->n_threads > 0) {
        BackendOptions one = {.isa = o->isa, .n_threads = (int)o->n_threads};
        Outcome only = run_variant(&backend_cpu, &one, o);
        return only.ran ? only.n_failures : -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        outcomes[i] = run_variant(&backend_cpu, &variants[i], o);
        n_failures += outcomes[i].n_failures;
    }
    return n_failures + compare_runs(&outcomes[0], &outcomes[1], "1 and 3 threads, portable C") +
           compare_runs(&outcomes[3], &outcomes[4], "1 and 3 threads");
}
#else
static int run_cpu(const Options *o) {
    fprintf(stderr, "this build has no CPU backend: give --backend\n");
    return 1;
}
#endif

static int run_module(const Options *o) {
    const BackendModule *m;
    Err err = {0};
    int r = backend_load(o->module, &m, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err_text(&err));
        return 1;
    }
    BackendOptions options = {.exact_f32 = o->exact, .isa = o->isa};
    Outcome first = run_variant(m, &options, o);
    if (!first.ran || !o->twice)
        return first.ran ? first.n_failures : -1;
    Outcome second = run_variant(m, &options, o);
    return first.n_failures + second.n_failures + compare_runs(&first, &second, o->module);
}

static bool parse_isa(const char *name, Isa *ret) {
    static const char *const names[] = {
            [ISA_PORTABLE] = "portable", [ISA_AVX2] = "avx2", [ISA_AVX512] = "avx512"};
    for (size_t i = ISA_PORTABLE; i < ARRAY_LEN(names); i++)
        if (str_eq(name, names[i])) {
            *ret = (Isa)i;
            return true;
        }
    fprintf(stderr, "--isa '%s' is not portable, avx2 or avx512\n", name);
    return false;
}

int main(int argc, char *argv[]) {
    static const struct option longs[] = {
            {"bench", no_argument, NULL, 'b'},
            {"backend", required_argument, NULL, 'm'},
            {"exact", no_argument, NULL, 'e'},
            {"twice", no_argument, NULL, '2'},
            {"seed", required_argument, NULL, 's'},
            {"every", required_argument, NULL, 'n'},
            {"isa", required_argument, NULL, 'i'},
            {"threads", required_argument, NULL, 't'},
            {0},
    };
    Options o = {.seed = 1};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
        switch (c) {
        case 'b':
            o.bench = true;
            break;
        case 'm':
            o.module = optarg;
            break;
        case 'e':
            o.exact = true;
            break;
        case '2':
            o.twice = true;
            break;
        case 'i':
            if (!parse_isa(optarg, &o.isa))
                return 2;
            break;
        case 't':
            if (str_to_i64(optarg, &o.n_threads) == 0 && o.n_threads > 0 && o.n_threads < 1024)
                break;
            fprintf(stderr, "--threads '%s' is not 1 to 1023\n", optarg);
            return 2;
        case 'n':
            if (str_to_i64(optarg, &o.every) == 0 && o.every > 0)
                break;
            fprintf(stderr, "--every '%s' is no number above 0\n", optarg);
            return 2;
        case 's':
            if (str_to_u64(optarg, &o.seed) == 0)
                break;
            fprintf(stderr, "--seed '%s' is no number\n", optarg);
            return 2;
        default:
            return 2;
        }
    o.ops = argv + optind;
    o.n_ops = argc - optind;
    int n_failures = o.module ? run_module(&o) : run_cpu(&o);
    return n_failures < 0 ? 77 : n_failures > 0;
}
