/* bench - the tiny model on the CPU with memory as a test wants it, and runs of it. */
#ifndef PREHEAT_UNIT_PIPELINE_BENCH_H
#define PREHEAT_UNIT_PIPELINE_BENCH_H

#include "backend/cpu/module.h"
#include "base/clock.h"
#include "base/digest.h"
#include "pipeline/pipeline.h"
#include "store/manifest.h"

#include <string.h>

/* A small request: 9 frames of 64x64 in 3 guided steps. */
static const Request small = {
        .prompt = (char[]){"a red circle moving right on a black background"},
        .negative_prompt = (char[]){""},
        .width = 64,
        .height = 64,
        .num_frames = 9,
        .fps = 12,
        .steps = 3,
        .guidance_scale = 4,
        .flow_shift = 3,
        .scheduler = SCHEDULER_UNIPC,
        .seed = 7,
        .n = 1,
};

typedef struct Bench {
    Manifest *manifest;
    Checkpoint *checkpoint;
    Backend *backend;
    Pipeline *pipeline;
} Bench;

static inline __attribute__((unused)) int bench_open_for(
        Bench *b, const Request *reserve, uint64_t memory_limit, Err *err) {
    *b = (Bench){0};
    int r = manifest_open(TINY_WAN, &b->manifest, err);
    if (r == 0)
        r = checkpoint_open_files(b->manifest, &b->checkpoint, err);
    const BackendOptions options = {
            .n_threads = 2, .memory_limit = memory_limit, .exportable = true};
    if (r == 0)
        r = backend_open(&backend_cpu, &options, &b->backend, err);
    if (r == 0)
        r = pipeline_new(b->checkpoint, &b->pipeline, err);
    if (r == 0)
        r = pipeline_plan(b->pipeline, b->backend, reserve, 0, err);
    return r;
}

static inline __attribute__((unused)) int bench_open(Bench *b, uint64_t memory_limit, Err *err) {
    return bench_open_for(b, &small, memory_limit, err);
}

static inline __attribute__((unused)) void bench_close(Bench *b) {
    pipeline_free(b->pipeline);
    backend_free(b->backend);
    checkpoint_free(b->checkpoint);
    manifest_free(b->manifest);
}

static inline __attribute__((unused)) void bench_load(Bench *b) {
    Err err = {0};
    const PipelineLoad how = {.timeout_usec = USEC_INFINITY};
    if (pipeline_load(b->pipeline, &how, &err) < 0)
        fail_msg("%s", err_text(&err));
}

typedef struct Frames {
    DigestState *digest;
    int64_t n, bytes;   /* bytes: of a frame */
    Progress *progress; /* to cancel by; NULL: never */
    int fail_with;
} Frames;

static inline __attribute__((unused)) int take(
        void *context, const uint8_t *rgb, int64_t n, Err *err) {
    Frames *f = context;
    f->n += n;
    digest_state_add(f->digest, rgb, (size_t)(n * f->bytes));
    return f->fail_with ? err_set(err, f->fail_with, "no more, thank you") : 0;
}

static inline __attribute__((unused)) Digest run(Bench *b, const Request *r, const uint8_t *image) {
    Frames frames = {.digest = digest_state_new(), .bytes = r->width * r->height * 3};
    Progress progress = {0};
    Err err = {0};
    if (pipeline_run(b->pipeline, r, image, &progress, take, &frames, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(frames.n, r->num_frames);
    assert_int_equal(progress.frames_decoded, r->num_frames);
    Digest d = digest_state_get(frames.digest);
    digest_state_free(frames.digest);
    return d;
}

#endif
