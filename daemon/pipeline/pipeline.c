#include "pipeline/pipeline.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "pipeline/defaults.h"
#include "pipeline/run-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

DEFINE_CLEANUP(Stream, stream_free)
DEFINE_CLEANUP(Pipeline, pipeline_free)

struct Pipeline {
    Checkpoint *checkpoint; /* borrowed */
    Backend *backend;       /* borrowed; NULL until pipeline_plan() */
    Model *model;
    Tokenizer *tokenizer;
    RequestDefaults defaults;
    Residency residency;
    uint64_t budget; /* device memory for weights and workspaces */
    bool concurrent; /* a run may begin while the load goes on */

    Pinner *pinner; /* the loading thread's, then the worker's; NULL: nothing is locked */

    /* The worker's. */
    Stream *stream; /* kept from run to run while its workspace is large enough */
    size_t workspace_bytes;
    uint64_t load_timeout_usec;
    uint64_t peak_bytes;

    pthread_mutex_t lock;  /* guards what follows */
    pthread_cond_t loaded; /* load_result was set */
    bool load_ended;
    int load_result;
    /* Bound a second time, which takes 0.7 ms for Wan2.2-TI2V-5B, and never loaded: plans for other
     * threads, while in the worker's the views change with the weights that come and go. */
    Model *planner;
};

static int new_tokenizer(Pipeline *p, const Checkpoint *c, Err *err) {
    const char *spiece;
    size_t n;
    int r = checkpoint_file(c, "tokenizer/spiece.model", &spiece, &n, err);
    if (r < 0)
        return r;
    const char *config; /* comes with checkpoints that mean the Hugging Face tokenizer */
    size_t n_config;
    TokenizerHabit habit =
            checkpoint_file(c, "tokenizer/tokenizer_config.json", &config, &n_config, NULL) == 0
                    ? TOKENIZER_HUGGING_FACE
                    : TOKENIZER_SENTENCEPIECE;
    r = tokenizer_new(spiece, n, p->model->dims.t5.vocab, habit, &p->tokenizer, err);
    return r < 0 ? err_prefix(err, r, "tokenizer/spiece.model") : 0;
}

/* How a request would be run. */
typedef struct Plan {
    Workspaces workspaces;
    VaeGrid grid;
} Plan;

static bool fits(const Pipeline *p, Residency residency, const Workspaces *w) {
    return residency_peak(p->planner, p->backend, residency, w) <= p->budget;
}

/* Frames are cut only where the decoder's workspace is what does not fit; N_RESIDENCIES: never. */
static int plan_run(const Pipeline *p, Run *run, Residency residency, Plan *ret, Err *err) {
    Workspaces w;
    int r = run_plan(run, p->backend, &w, err);
    while (r == 0 && residency < N_RESIDENCIES && !fits(p, residency, &w) &&
            fits(p, residency, &(Workspaces){.denoise = w.denoise}) && run_cut(run))
        r = run_plan(run, p->backend, &w, err);
    if (r == 0)
        *ret = (Plan){w, run->grid};
    return r;
}

/* What is planned for: the request, or one of its size with everything that takes memory and that a
 * client may ask for. */
typedef enum Demand { DEMAND_GIVEN, DEMAND_MOST } Demand;

static int plan_request(
        Pipeline *p, const Request *r, Demand demand, Residency residency, Plan *ret, Err *err) {
    Request most = *r;
    most.image = (uint8_t[]){0};
    most.guidance_scale = MAX(r->guidance_scale, 2.0);
    most.scheduler = SCHEDULER_UNIPC;
    Run run;
    (void)pthread_mutex_lock(&p->lock);
    int e = run_init(&run, p->planner, p->tokenizer, demand == DEMAND_MOST ? &most : r, err);
    if (e == 0 && demand == DEMAND_MOST)
        run.prompt.n = run.negative.n = TEXT_ROWS;
    if (e == 0)
        e = plan_run(p, &run, residency, ret, err);
    run_done(&run);
    (void)pthread_mutex_unlock(&p->lock);
    return e;
}

static int too_large(
        const Pipeline *p, Residency residency, const Request *r, const Plan *plan, Err *err) {
    int64_t n_tiles = plan->grid.rows * plan->grid.cols;
    char tiles[64] = "";
    if (n_tiles > 1)
        (void)snprintf(tiles, sizeof(tiles), ", frames decoded in %" PRId64 " tiles", n_tiles);
    return err_set(err, -E2BIG,
            "%" PRId64 " frames of %" PRId64 "x%" PRId64 " need %" PRIu64
            " MiB of device memory (%s%s), %" PRIu64 " MiB may be used",
            r->num_frames, r->width, r->height,
            residency_peak(p->planner, p->backend, residency, &plan->workspaces) >> 20,
            residency_name(residency), tiles, p->budget >> 20);
}

/* The first residency under which every request of that size fits with whole frames, else with
 * tiles. Where there is none, the last one leaves the most room for those that do. */
static int choose_residency(Pipeline *p, const Request *reserve, Err *err) {
    Plan plan;
    int r = plan_request(p, reserve, DEMAND_MOST, N_RESIDENCIES, &plan, err);
    if (r < 0)
        return r;
    for (p->residency = 0; p->residency < N_RESIDENCIES; p->residency++)
        if (fits(p, p->residency, &plan.workspaces))
            return 0;
    for (p->residency = 0; p->residency < N_RESIDENCIES; p->residency++) {
        r = plan_request(p, reserve, DEMAND_MOST, p->residency, &plan, err);
        if (r < 0 || fits(p, p->residency, &plan.workspaces))
            return r;
    }
    p->residency = N_RESIDENCIES - 1;
    r = plan_request(p, reserve, DEMAND_GIVEN, p->residency, &plan, err);
    if (r < 0 || fits(p, p->residency, &plan.workspaces))
        return r;
    return too_large(p, p->residency, reserve, &plan, err);
}

static int new_models(Pipeline *p, Checkpoint *c, Err *err) {
    int r = model_new(c, &p->model, err);
    if (r == 0)
        r = model_new(c, &p->planner, err);
    if (r == 0)
        r = new_tokenizer(p, c, err);
    if (r == 0)
        r = defaults_read(c, &p->model->dims.scheduler, &p->defaults, err);
    return r;
}

/* Beside weights and workspaces a device keeps scratch for each stream, and rounds each piece up.
 */
static uint64_t device_budget(Backend *b) {
    enum { SLACK_MIB = 384 };
    uint64_t bytes = backend_memory_free(b), slack = SLACK_MIB * MIB;
    if (backend_info(b)->memory_total == 0)
        return bytes;
    return bytes > slack ? bytes - slack : 0;
}

int pipeline_new(Checkpoint *c, Pipeline **ret, Err *err) {
    _cleanup_(pipeline_freep) Pipeline *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for a pipeline");
    p->checkpoint = c;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->loaded, NULL);
    int r = new_models(p, c, err);
    if (r == 0)
        *ret = TAKE_PTR(p);
    return r;
}

int pipeline_plan(Pipeline *p, Backend *b, const Request *reserve, uint64_t held_bytes, Err *err) {
    assert(!p->backend);
    p->backend = b;
    Request own;
    request_init(&own, &p->defaults);
    own.prompt = (char[]){""};
    p->budget = device_budget(b) + held_bytes;
    int r = choose_residency(p, reserve ? reserve : &own, err);
    if (r < 0)
        return r;
    p->concurrent = p->residency == RESIDENCY_ALL;
    if (!p->concurrent || !backend_info(b)->fast_unpinned) {
        r = pinner_new(b, p->checkpoint, &p->pinner, err);
        if (r < 0)
            return r;
    }
    if (p->concurrent) {
        weights_expect(umt5_weights(p->model->umt5));
        weights_expect(dit_weights(p->model->dit));
        weights_expect(vae_weights(p->model->vae));
    }
    return 0;
}

Pipeline *pipeline_free(Pipeline *p) {
    if (!p)
        return NULL;
    stream_free(p->stream);
    tokenizer_free(p->tokenizer);
    model_free(p->model);
    model_free(p->planner);
    pinner_free(p->pinner);
    (void)pthread_cond_destroy(&p->loaded);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
    return NULL;
}

static int load(Pipeline *p, const PipelineLoad *how, Err *err) {
    _cleanup_(stream_freep) Stream *s = NULL;
    int r = stream_new(p->backend, 0, &s, err);
    ResidencyLoad pinned = *how;
    pinned.pinner = p->pinner;
    if (r == 0)
        r = residency_load(p->model, s, p->residency, &pinned, err);
    /* Where the stream failed, groups may count as loaded that are not. */
    bool sound = !s || stream_failure(s, NULL) == 0;
    return r == -ENOMEM && how->may_retry && sound ? -EAGAIN : r;
}

int pipeline_load(Pipeline *p, const PipelineLoad *how, Err *err) {
    p->load_timeout_usec = how->timeout_usec;
    int r = load(p, how, err);
    if (r == -EAGAIN)
        return r;
    if (r == 0)
        pinner_remark(p->pinner, err);
    weights_settle(umt5_weights(p->model->umt5), r);
    weights_settle(dit_weights(p->model->dit), r);
    weights_settle(vae_weights(p->model->vae), r);
    (void)pthread_mutex_lock(&p->lock);
    p->load_ended = true;
    p->load_result = r;
    (void)pthread_cond_broadcast(&p->loaded);
    (void)pthread_mutex_unlock(&p->lock);
    return r;
}

size_t pipeline_parkable(const Pipeline *p, uint64_t ret[static RESIDENCY_MAX_PARKABLE]) {
    WeightGroup *groups[RESIDENCY_MAX_PARKABLE];
    size_t n = residency_parkable(p->model, p->backend, p->residency, groups);
    for (size_t i = 0; i < n; i++)
        ret[i] = weights_group_bytes(groups[i], p->backend);
    return n;
}

int pipeline_export(const Pipeline *p, size_t i, int *ret_fd, Err *err) {
    WeightGroup *groups[RESIDENCY_MAX_PARKABLE];
    size_t n = residency_parkable(p->model, p->backend, p->residency, groups);
    assert(i < n);
    return memory_export(weights_group_memory(groups[i]), ret_fd, err);
}

void pipeline_defaults(const Pipeline *p, RequestDefaults *ret) {
    *ret = p->defaults;
}

int64_t pipeline_size_multiple(const Pipeline *p) {
    return p->model->dims.vae.stride_s * p->model->dims.dit.patch;
}

bool pipeline_is_lost(Pipeline *p) {
    _cleanup_(stream_freep) Stream *own = NULL; /* between phases there is none */
    int r = p->stream ? 0 : stream_new(p->backend, 0, &own, NULL);
    if (r == 0)
        r = stream_finish(p->stream ? p->stream : own, NULL);
    return r == -EIO;
}

uint64_t pipeline_peak_bytes(const Pipeline *p) {
    return p->peak_bytes;
}

const char *pipeline_residency(const Pipeline *p) {
    return residency_name(p->residency);
}

int pipeline_admit(Pipeline *p, const Request *r, Err *err) {
    Plan plan;
    int e = plan_request(p, r, DEMAND_GIVEN, p->residency, &plan, err);
    if (e < 0)
        return e;
    return fits(p, p->residency, &plan.workspaces) ? 0 : too_large(p, p->residency, r, &plan, err);
}

static int ensure_workspace(Pipeline *p, size_t bytes, Err *err) {
    if (p->stream && p->workspace_bytes >= bytes)
        return 0;
    p->stream = stream_free(p->stream); /* first: both may not fit */
    int r = stream_new(p->backend, bytes, &p->stream, err);
    if (r == 0)
        p->workspace_bytes = bytes;
    return r;
}

int pipeline_reserve(Pipeline *p, const Request *largest, Err *err) {
    Plan plan;
    if (p->residency >= RESIDENCY_BY_PHASE || backend_info(p->backend)->memory_total == 0)
        return 0;
    int r = plan_request(p, largest, DEMAND_MOST, p->residency, &plan, err);
    if (r == 0 && !fits(p, p->residency, &plan.workspaces))
        r = plan_request(p, largest, DEMAND_GIVEN, p->residency, &plan, err);
    if (r < 0)
        return r;
    const Workspaces *w = &plan.workspaces;
    if (!fits(p, p->residency, w))
        return too_large(p, p->residency, largest, &plan, err);
    r = ensure_workspace(p, MAX(w->denoise, w->decode), err);
    if (r == 0)
        p->peak_bytes = MAX(p->peak_bytes, residency_peak(p->planner, p->backend, p->residency, w));
    return r;
}

/* Only where all weights stay may a run begin before they are there. */
static int await_load(Pipeline *p, Err *err) {
    (void)pthread_mutex_lock(&p->lock);
    while (!p->load_ended && !p->concurrent)
        (void)pthread_cond_wait(&p->loaded, &p->lock);
    int r = p->load_ended ? p->load_result : 0;
    (void)pthread_mutex_unlock(&p->lock);
    return r < 0 ? err_set(err, r, "the weights could not be loaded") : 0;
}

static int stop_when_cancelled(void *context, size_t n_loaded, size_t n_groups) {
    const Progress *progress = context;
    return atomic_load_explicit(&progress->cancelled, memory_order_relaxed) ? -ECANCELED : 0;
}

/* Where weights come and go with the phase, so does the workspace. */
static int enter_denoise(Pipeline *p, Progress *progress, const Workspaces *w, Err *err) {
    if (p->residency < RESIDENCY_BY_PHASE)
        return ensure_workspace(p, MAX(w->denoise, w->decode), err);
    p->stream = stream_free(p->stream);
    const PipelineLoad how = {.timeout_usec = p->load_timeout_usec,
            .on_group = stop_when_cancelled,
            .context = progress};
    int r = load(p, &how, err);
    return r == 0 ? ensure_workspace(p, w->denoise, err) : r;
}

static int enter_decode(Pipeline *p, const Workspaces *w, Err *err) {
    if (p->residency < RESIDENCY_BY_PHASE)
        return 0;
    int r = stream_finish(p->stream, err);
    if (r < 0)
        return r;
    p->stream = stream_free(p->stream); /* first: the decoder need not fit beside its workspace */
    _cleanup_(stream_freep) Stream *s = NULL;
    r = stream_new(p->backend, 0, &s, err);
    if (r == 0)
        r = residency_enter_decode(p->model, s, p->residency, p->load_timeout_usec, err);
    if (r == 0)
        r = stream_finish(s, err);
    return r == 0 ? ensure_workspace(p, w->decode, err) : r;
}

static int run_phases(Pipeline *p, Run *run, const Workspaces *w, Err *err) {
    int r = enter_denoise(p, run->progress, w, err);
    if (r == 0)
        r = run_denoise(run, p->stream, err);
    if (r == 0)
        r = enter_decode(p, w, err);
    if (r == 0)
        r = run_decode(run, p->stream, err);
    return r;
}

int pipeline_run(Pipeline *p, const Request *r, const uint8_t *image, Progress *progress,
        FrameSink *sink, void *context, Err *err) {
    assert((r->image != NULL) == (image != NULL));
    Run run;
    Plan plan;
    progress_enter(progress, PHASE_LOADING, 0);
    int e = await_load(p, err);
    if (e < 0)
        return e;
    e = run_init(&run, p->model, p->tokenizer, r, err);
    if (e == 0)
        e = plan_run(p, &run, p->residency, &plan, err);
    if (e == 0)
        e = run_prepare(&run, image, err);
    if (e == 0) {
        run.progress = progress;
        run.sink = sink;
        run.sink_context = context;
        const Workspaces *w = &plan.workspaces;
        p->peak_bytes = MAX(p->peak_bytes, residency_peak(p->model, p->backend, p->residency, w));
        e = run_phases(p, &run, w, err);
    }
    run_done(&run);
    return e;
}
