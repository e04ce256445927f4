/* The room pipeline: bound to a model; a request through it. */
#include "oom.h"

#include "backend/cpu/module.h"
#include "base/clock.h"
#include "pipeline/pipeline.h"
#include "store/manifest.h"

#include <jansson.h>

static const Request request = {
        .prompt = (char[]){"a red circle"},
        .negative_prompt = (char[]){""},
        .width = 64,
        .height = 64,
        .num_frames = 1,
        .fps = 12,
        .steps = 1,
        .guidance_scale = 1,
        .flow_shift = 3,
        .n = 1,
};

typedef struct Bench {
    Checkpoint *checkpoint;
    Backend *backend;
    Pipeline *pipeline;
} Bench;

static int bind(void *context, Err *err) {
    const Bench *b = context;
    Pipeline *p = NULL;
    int r = pipeline_new(b->checkpoint, &p, err);
    if (r == 0)
        r = pipeline_plan(p, b->backend, &request, 0, err);
    (void)pipeline_free(p);
    return r;
}

static int drop(void *context, const uint8_t *rgb, int64_t n, Err *err) {
    return 0;
}

static int run(void *context, Err *err) {
    const Bench *b = context;
    Progress progress = {0};
    int r = pipeline_admit(b->pipeline, &request, err);
    return r < 0 ? r : pipeline_run(b->pipeline, &request, NULL, &progress, drop, NULL, err);
}

int main(void) {
    Bench b = {0};
    Manifest *m = NULL;
    Err err = {0};
    const BackendOptions options = {.n_threads = 1};
    const PipelineLoad how = {.timeout_usec = USEC_INFINITY};
    json_set_alloc_funcs(oom_malloc, free);
    int r = manifest_open(TINY_WAN, &m, &err);
    if (r == 0)
        r = checkpoint_open_files(m, &b.checkpoint, &err);
    if (r == 0)
        r = backend_open(&backend_cpu, &options, &b.backend, &err);
    assert(r == 0);
    oom_count_up("pipeline_new", bind, &b, 100);

    r = pipeline_new(b.checkpoint, &b.pipeline, &err);
    if (r == 0)
        r = pipeline_plan(b.pipeline, b.backend, &request, 0, &err);
    if (r == 0)
        r = pipeline_load(b.pipeline, &how, &err);
    if (r == 0) /* the stream that it makes is kept for the runs that are counted */
        r = run(&b, &err);
    assert(r == 0);
    oom_count_up("pipeline_admit, pipeline_run", run, &b, 10);
    (void)pipeline_free(b.pipeline);
    (void)backend_free(b.backend);
    (void)checkpoint_free(b.checkpoint);
    (void)manifest_free(m);
    return 0;
}
