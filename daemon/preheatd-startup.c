#include "preheatd-startup.h"

#include "preheat-configured.h"
#include "preheatd-parking.h"
#include "preheatd-versions.h"

#include "backend/backend.h"
#include "backend/cpu/module.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/checkpoint.h"
#include "store/manifest.h"
#include "store/weights.h"

#include <errno.h>
#include <pthread.h>

DEFINE_CLEANUP(Backend, backend_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)
DEFINE_CLEANUP(Manifest, manifest_free)

struct Startup {
    const Config *config; /* borrowed */
    int weights_fd;       /* borrowed, -1: none */
    int segment_fd;       /* open as long as the checkpoint; may be weights_fd */
    void (*changed)(void *context);
    void *context;

    /* Each written by one step of the graph, read by steps that need it, and by others once it is
     * done. */
    Manifest *manifest;
    Checkpoint *checkpoint; /* written under the lock, too, for startup_cancel() */
    Backend *backend;
    Parking *parking;
    Memory **parked; /* pieces that fit the pipeline; NULL: weights are loaded */
    Pipeline *pipeline;
    Step steps[GRAPH_MAX_STEPS]; /* the table below, as the configuration changes it */
    Graph *graph;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended; /* usable was set, or the graph's end was seen */
    bool usable;          /* the pipeline runs; weights may still be on their way */
    bool cancelled;
    StartupState state;
};

static void set_phase(Startup *p, const char *phase, int percent) {
    (void)pthread_mutex_lock(&p->lock);
    p->state.phase = phase;
    p->state.percent = percent;
    (void)pthread_mutex_unlock(&p->lock);
    p->changed(p->context);
}

static int given_up(Err *err) {
    return err_set(err, -ECANCELED, "nobody waits for it any more");
}

static int step_manifest(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    _cleanup_(manifest_freep) Manifest *m = NULL;
    if (!configured_where(p->config)[0])
        return err_set(err, -ENOENT, "no model is configured: [model] path is empty");
    int r = configured_manifest(p->config, &m, err);
    if (r < 0)
        return r;
    if (!step_keep(call))
        return given_up(err);
    p->manifest = TAKE_PTR(m);
    return 0;
}

static void undo_manifest(void *context) {
    Startup *p = context;
    p->manifest = manifest_free(p->manifest);
}

static void set_start(Startup *p, JobStart start) {
    (void)pthread_mutex_lock(&p->lock);
    p->state.start = start;
    (void)pthread_mutex_unlock(&p->lock);
}

static void set_checkpoint(Startup *p, Checkpoint *c) {
    (void)pthread_mutex_lock(&p->lock);
    p->checkpoint = c;
    if (c && p->cancelled)
        checkpoint_cancel(c);
    (void)pthread_mutex_unlock(&p->lock);
}

static void close_segment(const Startup *p, int fd) {
    if (fd >= 0 && fd != p->weights_fd)
        (void)close(fd);
}

/* A segment that a warm-up left half filled, when it failed or was killed, is as good as none. */
static int step_segment(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    int fd = weights_open(p->weights_fd, p->config->model.segment, err);
    if (fd < 0)
        return fd;
    Checkpoint *c = NULL;
    int r = checkpoint_open_segment(p->manifest, fd, p->config->model.segment, &c, err);
    if (r == 0)
        r = checkpoint_check_supply(c, err);
    if (r == 0 && !step_keep(call))
        r = given_up(err);
    if (r < 0) {
        (void)checkpoint_free(c);
        close_segment(p, fd);
        return r;
    }
    p->segment_fd = fd;
    set_checkpoint(p, c);
    set_start(p, JOB_START_COLD_HOST);
    return 0;
}

static int step_files(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    const Config *c = p->config;
    set_start(p, JOB_START_COLD_DISK);
    if (c->model.source[0] && c->source.mode == CONFIG_SOURCE_DIRECT)
        return err_set(err, -ENOENT,
                "the weights of '%s' are not in memory and, with mode = direct, not on the disk: "
                "preheat-warmup.service brings them",
                c->model.source);
    _cleanup_(checkpoint_freep) Checkpoint *checkpoint = NULL;
    int r = checkpoint_open_files(p->manifest, &checkpoint, err);
    if (r < 0)
        return c->model.source[0]
                       ? err_prefix(err, r, "'%s' was not fetched whole", c->model.source)
                       : r;
    if (!step_keep(call))
        return given_up(err);
    set_checkpoint(p, TAKE_PTR(checkpoint));
    return 0;
}

static void undo_checkpoint(void *context) {
    Startup *p = context;
    Checkpoint *c = p->checkpoint;
    set_checkpoint(p, NULL);
    checkpoint_free(c);
    close_segment(p, p->segment_fd);
    p->segment_fd = -1;
}

static int open_cuda(const Startup *p, const BackendOptions *options, Backend **ret, Err *err) {
    const BackendModule *module;
    int r = backend_load(p->config->backend.module, &module, err);
    return r < 0 ? r : backend_open(module, options, ret, err);
}

static int step_backend(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    const BackendOptions options = {
            .n_threads = (int)p->config->backend.threads,
            .device = (int)p->config->backend.device,
            .memory_limit = p->config->backend.vram_limit,
            .exportable = p->config->backend.park_vram == CONFIG_YES,
    };
    _cleanup_(backend_freep) Backend *b = NULL;
    int r = -ENODEV;
    if (p->config->backend.kind != CONFIG_BACKEND_CPU) {
        Err why = {0};
        r = open_cuda(p, &options, &b, &why);
        if (r == -ENOMEM && !step_is_last_try(call)) /* another program's may go */
            return err_set(err, -EAGAIN, "%s", err_text(&why));
        if (r < 0 && p->config->backend.kind == CONFIG_BACKEND_CUDA)
            return err_set(err, r, "%s", err_text(&why));
        if (r < 0)
            log_info("No CUDA device: %s, using the CPU", err_text(&why));
    }
    if (r < 0)
        r = backend_open(&backend_cpu, &options, &b, err);
    if (r < 0)
        return r;
    if (!step_keep(call))
        return given_up(err);
    p->backend = TAKE_PTR(b);
    (void)pthread_mutex_lock(&p->lock);
    (void)snprintf(
            p->state.device, sizeof(p->state.device), "%s", backend_info(p->backend)->device);
    (void)pthread_mutex_unlock(&p->lock);
    return 0;
}

static void undo_backend(void *context) {
    Startup *p = context;
    p->backend = backend_free(p->backend);
}

static int step_parked(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    parking_take(p->parking, p->backend, p->manifest);
    return 0;
}

static void undo_parked(void *context) {
    Startup *p = context;
    parking_drop(p->parking);
}

static int step_architecture(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    return pipeline_new(p->checkpoint, &p->pipeline, err);
}

static int step_plan(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    int r = pipeline_plan(p->pipeline, p->backend, NULL, parking_bytes(p->parking), err);
    if (r < 0)
        return r;
    p->parked = parking_fit(p->parking, p->pipeline);
    if (p->parked)
        set_start(p, JOB_START_PARKED);
    (void)pthread_mutex_lock(&p->lock);
    pipeline_defaults(p->pipeline, &p->state.defaults);
    p->state.residency = pipeline_residency(p->pipeline);
    p->state.size_multiple = pipeline_size_multiple(p->pipeline);
    p->state.has_limits = true;
    p->usable = true;
    (void)pthread_cond_broadcast(&p->ended);
    (void)pthread_mutex_unlock(&p->lock);
    set_phase(p, "loading", 0);
    return 0;
}

static void undo_architecture(void *context) {
    Startup *p = context;
    p->pipeline = pipeline_free(p->pipeline);
}

typedef struct Loading {
    Startup *startup;
    const StepCall *call;
} Loading;

static int group_loaded(void *context, size_t n_loaded, size_t n_groups) {
    Loading *l = context;
    if (step_is_late(l->call))
        return -ECANCELED;
    set_phase(l->startup, "loading", (int)(100 * n_loaded / n_groups));
    return 0;
}

static int step_load(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    Loading loading = {.startup = p, .call = call};
    const PipelineLoad how = {
            .timeout_usec = p->config->warmup.timeout_usec,
            .parked = p->parked,
            .may_retry = !step_is_last_try(call),
            .on_group = group_loaded,
            .context = &loading,
    };
    return pipeline_load(p->pipeline, &how, err);
}

static int step_park(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    return parking_keep(p->parking, p->backend, p->pipeline, err);
}

/* An update of a library after preheatd was built is no reason to serve nobody: that is the
 * operator's decision. */
static int step_versions(void *context, const StepCall *call, Err *err) {
    Startup *p = context;
    if (!p->config->daemon.version_lock[0])
        return 0;
    Err why = {0};
    int r = versions_check(p->config, &why);
    if (r == 0)
        return 0;
    if (p->config->daemon.version_policy == CONFIG_VERSIONS_REFUSE)
        return err_set(err, r, "%s", err_text(&why));
    if (r == -ENOENT)
        log_debug("%s, not checking versions", err_text(&why));
    else
        log_warning("%s, going on as version_policy says", err_text(&why));
    return 0;
}

enum {
    STEP_MANIFEST,
    STEP_VERSIONS,
    STEP_BACKEND,
    STEP_WEIGHTS,
    STEP_PARKED,
    STEP_ARCHITECTURE,
    STEP_PLAN,
    STEP_LOAD,
    STEP_PARK,
    N_STEPS
};

/* In the table: as the configuration says. Only for steps that ask step_keep(). */
#define START_TIMEOUT USEC_INFINITY

/* What a start consists of. The backend, which may have to wait for a driver, opens while files are
 * read and held against the architecture. A load that fails takes nothing back: the worker may be
 * using the pipeline. */
static const Step steps[N_STEPS] = {
        [STEP_MANIFEST] = {.name = "manifest",
                .run = step_manifest,
                .undo = undo_manifest,
                .timeout_usec = START_TIMEOUT},
        [STEP_VERSIONS] = {.name = "versions", .run = step_versions},
        [STEP_BACKEND] = {.name = "backend",
                .run = step_backend,
                .undo = undo_backend,
                .timeout_usec = START_TIMEOUT,
                .retried = -EAGAIN},
        [STEP_WEIGHTS] = {.name = "weights",
                .needs = {"manifest"},
                .run = step_segment,
                .fallback = step_files,
                .undo = undo_checkpoint,
                .timeout_usec = START_TIMEOUT},
        [STEP_PARKED] = {.name = "parked",
                .needs = {"manifest", "backend"},
                .run = step_parked,
                .undo = undo_parked},
        [STEP_ARCHITECTURE] = {.name = "architecture",
                .needs = {"weights"},
                .run = step_architecture,
                .undo = undo_architecture},
        [STEP_PLAN] = {.name = "plan",
                .needs = {"architecture", "parked", "versions"},
                .run = step_plan},
        [STEP_LOAD] = {.name = "load",
                .needs = {"plan"},
                .run = step_load,
                .retried = -EAGAIN,
                .on_failure = STEP_SKIP_DEPENDENTS},
        [STEP_PARK] = {.name = "park",
                .needs = {"load"},
                .run = step_park,
                .on_failure = STEP_GO_ON},
};

/* Only what may pass by itself is tried again. */
static void apply_policy(Step *s, const Config *c) {
    if (s->retried) {
        s->retries = (int)c->daemon.start_retries;
        s->backoff_usec = c->daemon.start_retry_delay_usec;
    }
    if (s->timeout_usec == START_TIMEOUT)
        s->timeout_usec = c->daemon.start_timeout_usec;
    if (c->daemon.start_fallback == CONFIG_NO)
        s->fallback = NULL;
}

/* Why the model cannot be served once the graph has ended: 0 when it can. */
static int verdict(Startup *p, GraphState *ret_state, Err *err) {
    int r = graph_wait(p->graph, 0, ret_state, err);
    if (r < 0 || *ret_state == GRAPH_RUNNING)
        return r;
    StepReport reports[N_STEPS];
    graph_report(p->graph, reports);
    const StepReport *load = &reports[STEP_LOAD];
    if (load->outcome == STEP_DONE)
        return 0;
    return err_set(err, load->err.code, "step 'load': %s", err_text(&load->err));
}

/* The graph's end is looked up where the state is asked for: nobody has to be told twice. */
static void look_at_graph(Startup *p) {
    GraphState s;
    Err err = {0};
    int r = verdict(p, &s, &err);
    if (s == GRAPH_RUNNING)
        return;
    (void)pthread_mutex_lock(&p->lock);
    if (p->state.stage == STARTUP_RUNNING && !p->cancelled) {
        p->state.stage = r == 0 ? STARTUP_READY : STARTUP_REFUSED;
        p->state.phase = r == 0 ? "serving" : "refused";
        p->state.percent = r == 0 ? 100 : 0;
        p->state.abandoned = r == -ENOLINK;
        if (r < 0)
            (void)snprintf(p->state.reason, sizeof(p->state.reason), "%s", err_text(&err));
        (void)pthread_cond_broadcast(&p->ended);
    }
    (void)pthread_mutex_unlock(&p->lock);
}

/* On a graph thread, after each step. */
static void step_changed(void *context) {
    Startup *p = context;
    look_at_graph(p);
    p->changed(p->context);
}

int startup_begin(const Config *config, Listen *listen, void (*changed)(void *context),
        void *context, Startup **ret, Err *err) {
    Startup *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for the model's start");
    p->config = config;
    p->weights_fd = listen->weights;
    p->segment_fd = -1;
    p->changed = changed;
    p->context = context;
    p->state = (StartupState){.stage = STARTUP_RUNNING, .phase = "starting"};
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->ended, NULL);
    for (size_t i = 0; i < N_STEPS; i++) {
        p->steps[i] = steps[i];
        apply_policy(&p->steps[i], config);
    }
    const GraphOptions options = {
            .steps = p->steps,
            .n_steps = ARRAY_LEN(steps),
            .context = p,
            .on_change = step_changed,
            .change_context = p,
    };
    int r = parking_new(config, listen, &p->parking, err);
    if (r == 0)
        r = graph_start(&options, &p->graph, err);
    if (r < 0) {
        startup_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

Startup *startup_free(Startup *p) {
    if (!p)
        return NULL;
    graph_free(p->graph);
    pipeline_free(p->pipeline);
    parking_free(p->parking);
    backend_free(p->backend);
    undo_checkpoint(p);
    manifest_free(p->manifest);
    (void)pthread_cond_destroy(&p->ended);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
    return NULL;
}

void startup_cancel(Startup *p) {
    if (!p)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->cancelled = true;
    if (p->checkpoint)
        checkpoint_cancel(p->checkpoint);
    (void)pthread_cond_broadcast(&p->ended);
    (void)pthread_mutex_unlock(&p->lock);
    graph_cancel(p->graph);
}

int startup_settle(Startup *p, uint64_t timeout_usec) {
    return p ? graph_settle(p->graph, timeout_usec) : 0;
}

void startup_state(Startup *p, StartupState *ret) {
    look_at_graph(p);
    (void)pthread_mutex_lock(&p->lock);
    *ret = p->state;
    (void)pthread_mutex_unlock(&p->lock);
}

int startup_wait(Startup *p, Pipeline **ret, Err *err) {
    look_at_graph(p);
    (void)pthread_mutex_lock(&p->lock);
    while (!p->usable && !p->cancelled && p->state.stage != STARTUP_REFUSED)
        (void)pthread_cond_wait(&p->ended, &p->lock);
    int r = p->state.stage == STARTUP_REFUSED
                    ? err_set(err, p->state.abandoned ? -ENOLINK : -ENODEV, "%s", p->state.reason)
            : !p->usable ? err_set(err, -ECANCELED, "the start was given up")
                         : 0;
    if (r == 0)
        *ret = p->pipeline;
    (void)pthread_mutex_unlock(&p->lock);
    return r;
}

int startup_admit(Startup *p, const Request *r, Err *err) {
    return pipeline_admit(p->pipeline, r, err);
}

void startup_device_lost(Startup *p) {
    parking_forget(p->parking);
}

size_t startup_timeline(Startup *p, StepReport *ret) {
    graph_report(p->graph, ret);
    return ARRAY_LEN(steps);
}
