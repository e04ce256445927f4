/* preheat-golden - recomputes files of reference tensors and says how far off each tensor is.
 *
 * Every quantity is computed from the file's own inputs, so that one error does not hide behind
 * another, and once more in a free run from prompt and noise to frames. */
#include "backend/cpu/module.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "golden.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
        "usage: preheat-golden --model DIR [--backend cpu|MODULE.so] [--threads N] [--exact-f32] "
        "FILE.safetensors...\n"
        "Exit status: 0 every tensor is within its limit, 1 some is not, 2 it could not be told.\n";

typedef struct Options {
    const char *model, *backend;
    BackendOptions device;
} Options;

static int parse_options(int argc, char **argv, Options *o) {
    enum { MODEL = 1, BACKEND, THREADS, EXACT };
    static const struct option options[] = {{"model", required_argument, NULL, MODEL},
            {"backend", required_argument, NULL, BACKEND},
            {"threads", required_argument, NULL, THREADS}, {"exact-f32", no_argument, NULL, EXACT},
            {0}};
    int64_t n = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == MODEL)
            o->model = optarg;
        else if (c == BACKEND)
            o->backend = optarg;
        else if (c == THREADS && str_to_i64(optarg, &n) == 0 && n >= 0 && n <= 1024)
            o->device.n_threads = (int)n;
        else if (c == EXACT)
            o->device.exact_f32 = true;
        else
            return -EINVAL;
    }
    return o->model && optind < argc ? 0 : -EINVAL;
}

typedef struct Session {
    Manifest *manifest;
    Checkpoint *checkpoint;
    Backend *backend;
    Model *model;
    Tokenizer *tokenizer;
    Stream *loader; /* what the weights were imported on */
} Session;

static void session_done(Session *s) {
    tokenizer_free(s->tokenizer);
    model_free(s->model);
    stream_free(s->loader);
    backend_free(s->backend);
    checkpoint_free(s->checkpoint);
    manifest_free(s->manifest);
}

static int open_backend(const Options *o, Backend **ret, Err *err) {
    const BackendModule *module = &backend_cpu;
    if (!str_eq(o->backend, "cpu")) {
        int r = backend_load(o->backend, &module, err);
        if (r < 0)
            return r;
    }
    return backend_open(module, &o->device, ret, err);
}

static int open_tokenizer(Session *s, Err *err) {
    const char *data;
    size_t n;
    int r = checkpoint_file(s->checkpoint, "tokenizer/spiece.model", &data, &n, err);
    return r < 0 ? r
                 : tokenizer_new(data, n, s->model->dims.t5.vocab, TOKENIZER_SENTENCEPIECE,
                           &s->tokenizer, err);
}

static int session_open(Session *s, const Options *o, Err *err) {
    int r = manifest_open(o->model, &s->manifest, err);
    if (r == 0)
        r = checkpoint_open_files(s->manifest, &s->checkpoint, err);
    if (r == 0)
        r = model_new(s->checkpoint, &s->model, err);
    if (r == 0)
        r = open_tokenizer(s, err);
    if (r == 0)
        r = open_backend(o, &s->backend, err);
    if (r == 0)
        r = stream_new(s->backend, 0, &s->loader, err);
    if (r == 0)
        r = model_load(s->model, s->loader, USEC_INFINITY, err);
    return r < 0 ? r : stream_finish(s->loader, err);
}

static int check_tensors(Golden *g, Err *err) {
    const Reference *f = &g->file;
    if (reference_has(f, "initial_noise"))
        return golden_case(g, err);
    if (reference_has(f, "t5.input_ids") || reference_has(f, "dit.input") ||
            reference_has(f, "vae.input") || reference_has(f, "vae.z"))
        return golden_layers(g, err);
    return err_set(err, -EBADMSG, "neither 'initial_noise' nor the input of a network is in it");
}

static int check_file(const Session *s, const char *path, Verdict *v, Err *err) {
    Golden g = {
            .backend = s->backend,
            .model = s->model,
            .tokenizer = s->tokenizer,
            .limits = limits_for(backend_info(s->backend)),
            .verdict = v,
    };
    int r = reference_open(path, &g.file, err);
    if (r < 0)
        return r;
    (void)printf("%s, limits for %s\n", path, g.limits->name);
    r = check_tensors(&g, err);
    size_t i = 0;
    for (const char *name; r == 0 && (name = reference_unasked(&g.file, &i));)
        verdict_failed(v, name, "nothing here computes it");
    if (r < 0)
        r = err_prefix(err, r, "'%s'", path);
    arena_done(&g.arena);
    reference_close(&g.file);
    return r;
}

int main(int argc, char **argv) {
    Options o = {.backend = "cpu"};
    if (parse_options(argc, argv, &o) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    _cleanup_(session_done) Session s = {0};
    Err err = {0};
    Verdict v = {0};
    if (session_open(&s, &o, &err) < 0) {
        (void)fprintf(stderr, "preheat-golden: %s\n", err_text(&err));
        return 2;
    }
    int status = 0;
    for (int i = optind; i < argc; i++) {
        err_clear(&err);
        if (check_file(&s, argv[i], &v, &err) < 0) {
            (void)fprintf(stderr, "preheat-golden: %s\n", err_text(&err));
            status = 2;
        }
    }
    (void)printf("%d of %d tensors within their limits\n", v.n_checks - v.n_failed, v.n_checks);
    return status ? status : v.n_failed > 0;
}
