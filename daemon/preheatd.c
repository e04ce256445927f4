/* preheatd - the daemon: sockets from systemd, a model from its start graph, jobs on one worker.
 *
 * What an operator must mend (configuration, model, GPU) never ends it with a failure: it answers
 * 503 with the reason and leaves when idle, or systemd's start limit would take the sockets down.
 */
#include "preheat-configured.h"
#include "preheatd-arguments.h"
#include "preheatd-report.h"
#include "preheatd-reserve.h"
#include "preheatd-settings.h"
#include "preheatd-startup.h"
#include "preheatd-token.h"
#include "preheatd-variant.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "http/server.h"
#include "job/queue.h"
#include "metrics/metrics.h"
#include "pipeline/render.h"
#include "service/idle.h"
#include "service/listen.h"
#include "service/loop.h"
#include "service/notify.h"
#include "service/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum {
    LAST_ANSWERS_USEC = 1000000,   /* for open connections when the daemon stops */
    LAST_STEP_USEC = 2000000,      /* for a step of the start that was given up */
    PROGRESS_USEC = 120000000,     /* from one sign of a start's life to the next */
    CONTENDED_USEC = 5000000,      /* without a state directory, before it leaves */
    REFUSED_USEC = 20000000,       /* refusing for another reason, before it leaves */
    REFUSED_IDLE_USEC = 60000000,  /* idle exit without a configuration */
    PICTURE_MAX_PIXELS = 64000000, /* of a client's first frame; 192 MB decoded in the child */
};

/* Main thread, but for `startup` and `config`, which the worker reads, and `pipeline`, which is its
 * own. */
typedef struct Daemon {
    const char *config_path; /* NULL: the packaged one */
    Config *config;          /* of the start; NULL: refused, the reason is in `refusal` */
    Config *settings;        /* of the last reload: limits and defaults; may be config */
    RequestLimits limits;
    RequestDefaults defaults;
    Listen listen;
    Loop *loop;
    Idle *idle;
    Watchdog *watchdog;
    LoopSource *terminate, *interrupt, *hangup, *wake, *http_fd, *http_timer, *stop_timer;
    LoopSource *again; /* until what failed is tried again, here or by the next process */
    int n_contended;
    Metrics *metrics;
    JobQueue *jobs;
    HttpServer *http;
    Startup *startup;
    StartupState state;
    uint64_t begun_usec; /* when the start began */
    uint64_t asked_usec; /* when systemd is asked again for more time to start */
    ReportTimes last_start;
    int64_t model_created; /* unix seconds; 0: not known, as of a model from elsewhere */
    Variant variant;       /* of this start; its path is NULL without variants */
    uint64_t before_usec;  /* from the process's beginning to that of its start */
    DegradePlan degrade;
    char refusal[500]; /* why nothing can be accepted; empty: it can */
    char *token;
    char *detail; /* JSON for /healthz, borrowed by the server until the next call */
    bool told_ready, told_start, holding, stopping, quiesced;
    Pipeline *pipeline;
    bool worked;   /* the worker has run a job before */
    bool reserved; /* the worker has tried to */
    /* The worker's word to the main thread: of no use any more is the backend, or the segment. */
    atomic_bool lost, abandoned;
} Daemon;

static void serve_http(void *context, uint32_t events);
static void try_again(void *context, uint32_t events);
static void stop(void *context, uint32_t signo);

static void refuse(Daemon *d, const char *what, const Err *err) {
    if (!d->refusal[0])
        (void)snprintf(d->refusal, sizeof(d->refusal), "%s: %s", what, err_text(err));
    log_error("%s: %s, answering 503", what, err_text(err));
}

/* A full disk, a missing device or a wrong line may be mended with nobody telling: a process that
 * refuses leaves although it is asked, and the next connection tries anew. */
static void leave_after(Daemon *d, uint64_t usec) {
    if (d->listen.inherited)
        loop_timer_set(d->again, usec);
}

/* Once all weights are there; a job that waits goes first. */
static void worker_idles(void *context) {
    Daemon *d = context;
    StartupState state;
    if (d->reserved || !d->pipeline)
        return;
    startup_state(d->startup, &state);
    if (state.stage != STARTUP_READY)
        return;
    d->reserved = true;
    reserve_memory(d->config, &state, d->pipeline);
}

static void worker_begins(void *context) {
    Daemon *d = context;
    Err err = {0};
    if (d->startup && startup_wait(d->startup, &d->pipeline, &err) < 0)
        d->pipeline = NULL; /* each job fails with the reason */
}

/* Looked for before anything is computed, not when the first frame is there. */
static int find_encoder(const char *program, Err *err) {
    if (access(program, X_OK) < 0)
        return err_set(err, -errno, "the encoder '%s' cannot be run: %s", program, strerror(errno));
    return 0;
}

/* Where the weights' writer was gone, the job goes back into the queue and a new process begins
 * with what is there. */
static int left_to_next(Daemon *d, int r) {
    if (r == -ENOLINK) {
        job_queue_interrupt(d->jobs);
        atomic_store(&d->abandoned, true);
    }
    return r;
}

static int run_job(void *context, Job *job, Err *err) {
    Daemon *d = context;
    int r = 0;
    if (!d->pipeline)
        r = d->startup ? startup_wait(d->startup, &d->pipeline, err)
                       : err_set(err, -ENODEV, "%s", d->refusal);
    if (r == 0)
        r = find_encoder(d->config->media.program, err);
    if (r < 0)
        return left_to_next(d, r);
    StartupState state;
    startup_state(d->startup, &state);
    job->report.start = d->worked ? JOB_START_HOT : state.start;
    d->worked = true;
    const RenderOptions options = {
            .media_program = d->config->media.program,
            .media_timeout_usec = d->config->media.timeout_usec,
            .media_memory_bytes = d->config->media.memory_limit,
            .max_picture_pixels = PICTURE_MAX_PIXELS,
            .video_fd = job->video_fd,
            .thumbnail_fd = job->thumbnail_fd,
    };
    r = render(d->pipeline, job->request, &options, job->progress, err);
    job->report.peak_device_bytes = pipeline_peak_bytes(d->pipeline);
    if (r < 0 && pipeline_is_lost(d->pipeline)) {
        startup_device_lost(d->startup);
        job_queue_drain(d->jobs); /* what waits is for the next process */
        atomic_store(&d->lost, true);
    }
    return left_to_next(d, r);
}

static void log_job(void *context, const JobInfo *info) {
    uint64_t total = 0;
    for (int i = 0; i < N_PHASES; i++)
        total += i == PHASE_QUEUED ? 0 : info->phase_usec[i];
    _cleanup_free_ char *id = str_format("JOB=%s", info->id);
    _cleanup_free_ char *seconds = str_format("SECONDS=%.3f", (double)total / 1e6);
    _cleanup_free_ char *phase = str_format("PHASE=%s", phase_name(info->phase));
    const char *start_name = job_start_name(info->report.start);
    _cleanup_free_ char *start = str_format("START=%s", start_name ? start_name : "unknown");
    _cleanup_free_ char *model =
            str_format("MODEL=%s", info->request.model ? info->request.model : "unknown");
    if (!id || !seconds || !phase || !start || !model)
        return;
    bool failed = info->state == JOB_FAILED;
    const char *const fields[] = {
            failed ? LOG_ID_JOB_FAILED : LOG_ID_JOB_DONE, id, seconds, phase, start, model, NULL};
    const Request *r = &info->request;
    if (failed)
        log_line(strcmp(info->error_code, "cancelled") == 0 ? LOG_INFO : LOG_ERR, fields,
                "Job %s failed (%s): %s", info->id, info->error_code,
                info->error_message ? info->error_message : "no reason kept");
    else if (info->state == JOB_COMPLETED)
        log_line(LOG_INFO, fields,
                "Job %s done in %.2f s: %" PRId64 "x%" PRId64 ", %" PRId64 " frames, %" PRId64
                " steps, started %s",
                info->id, (double)total / 1e6, r->width, r->height, r->num_frames, r->steps,
                start_name ? start_name : "unknown");
    else if (info->error_message)
        log_line(LOG_WARNING, fields, "Job %s: %s, trying again", info->id, info->error_message);
    else
        log_line(LOG_INFO, fields, "Job %s was interrupted, it is queued again", info->id);
}

static void wake(void *context) {
    Daemon *d = context;
    loop_wake(d->wake);
}

static const char *detail_text(Daemon *d) {
    _cleanup_json_ json_t *detail = json_object();
    const char *tier = job_start_name(d->state.start);
    if (d->state.device[0])
        (void)json_object_set_new(detail, "device", json_string(d->state.device));
    if (d->state.residency)
        (void)json_object_set_new(detail, "residency", json_string(d->state.residency));
    (void)json_object_set_new(detail, "weights", tier ? json_string(tier) : json_null());
    report_json(d->startup, d->before_usec, detail);
    if (d->variant.path) {
        (void)json_object_set_new(detail, "variant", json_string(d->variant.name));
        (void)json_object_set(detail, "variants", d->variant.runs);
    }
    free(d->detail);
    d->detail = json_dumps(detail, JSON_COMPACT);
    return d->detail;
}

static void apply_settings(Daemon *d) {
    d->defaults = d->state.defaults;
    settings_defaults(d->settings, &d->defaults);
    d->limits = settings_limits(d->settings, d->state.size_multiple);
}

/* From what this start has done so far, once that is worth something; until then from the last
 * start of this kind. Negative: unknown. */
static double start_left_sec(const Daemon *d) {
    if (!d->startup || d->state.stage != STARTUP_RUNNING)
        return 0;
    double elapsed = (double)(clock_usec() - d->begun_usec) / 1e6;
    if (d->state.percent >= 10)
        return elapsed * (100 - d->state.percent) / d->state.percent;
    double last = d->last_start.seconds[d->state.start];
    return last > 0 ? fmax(last - elapsed, 0) : -1;
}

static void describe(void *context, HttpService *ret) {
    Daemon *d = context;
    *ret = (HttpService){
            .model = d->config ? d->config->model.name : NULL,
            .model_created = d->model_created,
            .phase = d->stopping     ? "draining"
                     : d->refusal[0] ? "refused"
                                     : d->state.phase,
            .percent = d->state.percent,
            .reason = d->refusal,
            .accepting = !d->refusal[0] && d->state.has_limits,
            .limits = &d->limits,
            .defaults = &d->defaults,
            .start_left_sec = start_left_sec(d),
            .degrade = &d->degrade,
            .detail = detail_text(d),
    };
    ret->opening = !d->refusal[0] && !d->state.has_limits && !d->stopping;
    if (!d->refusal[0] && !d->state.has_limits) {
        ret->reason = "the model is being opened";
        ret->retry_after_sec = 1;
    }
}

/* Asked only while `accepting`, hence with a pipeline. */
static int admit(void *context, const Request *r, RequestFault *fault, Err *err) {
    Daemon *d = context;
    return startup_admit(d->startup, r, err);
}

static void update_hold(Daemon *d) {
    bool busy = http_server_connections(d->http) > 0;
    if (d->startup) /* without one, queued jobs wait for a start that finds it */
        busy |= d->state.stage == STARTUP_RUNNING || !job_queue_idle(d->jobs);
    if (busy && !d->holding)
        idle_hold(d->idle);
    if (!busy && d->holding)
        idle_release(d->idle);
    d->holding = busy;
}

/* A failure makes systemd start the next process at once, whether or not anybody connects. */
static void leave(Daemon *d) {
    loop_exit(d->loop, atomic_load(&d->lost) ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* Once no job runs: takes no further connections, gives those that are open a moment to get their
 * answers. */
static void finish_stop(Daemon *d) {
    if (!d->stopping || (d->jobs && job_queue_running(d->jobs)))
        return;
    if (!d->http) {
        leave(d);
        return;
    }
    if (!d->quiesced) {
        d->quiesced = true;
        http_server_quiesce(d->http);
        loop_timer_set(d->stop_timer, LAST_ANSWERS_USEC);
    }
    if (http_server_connections(d->http) == 0)
        leave(d);
}

static void serve_http(void *context, uint32_t events) {
    Daemon *d = context;
    if (!d->http)
        return; /* without the state directory yet */
    http_server_run(d->http);
    loop_timer_set(d->http_timer, http_server_timeout(d->http));
    update_hold(d);
    finish_stop(d);
}

/* A slow disk is no reason to be killed and begin again. Now and then: systemd listens to each. */
static void ask_for_time(Daemon *d) {
    if (d->stopping || clock_left(d->asked_usec) > 0)
        return;
    notify_extend(PROGRESS_USEC);
    d->asked_usec = clock_deadline(PROGRESS_USEC / 4);
}

static void tell_state(Daemon *d) {
    if (d->refusal[0]) {
        notify_status("Refusing requests: %s", d->refusal);
    } else if (!d->startup) {
        notify_status("Waiting for the state directory");
        return;
    } else if (d->state.stage == STARTUP_RUNNING) {
        notify_status("%s: %d%%", d->state.phase, d->state.percent);
        ask_for_time(d);
        return;
    } else {
        JobQueueLoad load = {0};
        job_queue_load(d->jobs, &load);
        notify_status("Serving %s on %s: %" PRId64 " running, %" PRId64 " queued",
                d->config->model.name, d->state.device, load.n_running, load.n_queued);
    }
    if (d->told_ready)
        return;
    d->told_ready = true;
    notify_ready();
    if (!d->refusal[0]) {
        _cleanup_free_ char *model = str_format("MODEL=%s", d->config->model.name);
        const char *const fields[] = {LOG_ID_READY, model, NULL};
        log_line(LOG_NOTICE, fields, "Ready: model %s on %s", d->config->model.name,
                d->state.device);
    }
}

/* Something changed on another thread: the start or a job. */
static void look_around(void *context, uint32_t events) {
    Daemon *d = context;
    if (d->startup) {
        bool had_limits = d->state.has_limits;
        startup_state(d->startup, &d->state);
        if (d->state.has_limits && !had_limits)
            apply_settings(d);
        if ((d->state.abandoned || atomic_load(&d->abandoned)) && !d->stopping) {
            log_notice("The weights in memory were given up half-way, leaving to begin anew");
            stop(d, 0);
        } else if (d->state.stage == STARTUP_REFUSED && !d->refusal[0] && !d->stopping) {
            Err err = {0};
            (void)err_set(&err, -ENODEV, "%s", d->state.reason);
            refuse(d, "The model cannot be served", &err);
            leave_after(d, REFUSED_USEC);
        }
        if (d->state.stage != STARTUP_RUNNING && !d->told_start) {
            d->told_start = true;
            job_queue_wake(d->jobs);
            report_log(d->startup, d->before_usec, &d->state, d->variant.name);
        }
    }
    if (atomic_load(&d->lost) && !d->stopping) {
        const char *const fields[] = {LOG_ID_BACKEND_LOST, NULL};
        log_line(LOG_ERR, fields, "The device is lost, ending so that a new process can take it");
        d->stopping = true;
        notify_stopping();
    }
    tell_state(d);
    serve_http(d, 0);
}

/* Who connects from here on waits in the socket, which is systemd's, for the next instance. */
static void leave_when_idle(void *context, uint32_t events) {
    Daemon *d = context;
    http_server_run(d->http);
    update_hold(d);
    if (d->holding)
        return;
    log_info("Idle, leaving; the next request starts the service again");
    loop_exit(d->loop, 0);
}

static void give_up_waiting(void *context, uint32_t events) {
    Daemon *d = context;
    if (d->quiesced || !d->jobs) {
        leave(d);
        return;
    }
    log_warning("The running job has not ended in time, interrupting it");
    job_queue_interrupt(d->jobs);
    startup_cancel(d->startup); /* it may be weights that the job waits for */
}

/* Jobs that come in meanwhile are kept for the next start. A second signal waits for nothing. */
static void stop(void *context, uint32_t signo) {
    Daemon *d = context;
    if (d->stopping) {
        give_up_waiting(d, 0);
        return;
    }
    d->stopping = true;
    if (!d->told_ready)
        notify_ready(); /* systemd takes any end before it for a failure, to be waited after */
    d->told_ready = true;
    notify_stopping();
    if (d->jobs && job_queue_running(d->jobs)) {
        uint64_t timeout = d->config->daemon.drain_timeout_usec;
        log_info("Stopping when the running job is done, within %" PRIu64 " s",
                timeout / USEC_PER_SEC);
        notify_extend(timeout + 10 * USEC_PER_SEC);
        loop_timer_set(d->stop_timer, timeout);
    }
    if (d->jobs)
        job_queue_drain(d->jobs);
    finish_stop(d);
}

/* Limits and defaults follow the new file; what the daemon was started with stays. A daemon that
 * refuses may have been mended by it, and leaves to try. */
static void reload(void *context, uint32_t signo) {
    Daemon *d = context;
    Config *config;
    Err err = {0};
    if (d->told_ready) /* else the end of the reload would pass for that of the start */
        notify_reloading();
    DegradePlan plan;
    int r = config_load_variant(d->config_path, d->variant.path, &config, &err);
    if (r == 0 && (r = settings_degrade(config, &plan, &err)) < 0)
        config = config_free(config);
    if (r < 0) {
        const char *const fields[] = {LOG_ID_CONFIG_REFUSED, NULL};
        log_line(LOG_ERR, fields, "Configuration refused: %s, keeping the old one", err_text(&err));
    } else if (d->refusal[0] && d->listen.inherited) {
        config_free(config);
        log_notice("Leaving: the next request starts the service with this configuration");
        d->stopping = true;
        finish_stop(d);
    } else {
        config_free(d->settings != d->config ? d->settings : NULL);
        d->settings = config;
        d->degrade = plan;
        if (d->state.has_limits)
            apply_settings(d);
        log_notice("Limits and defaults reloaded; model, backend and sockets follow at the next "
                   "start");
    }
    if (d->told_ready)
        notify_ready();
}

static int open_sockets(Daemon *d, Err *err) {
    listen_init(&d->listen);
    int r = listen_inherit(&d->listen, err);
    if (r != 0)
        return r < 0 ? r : 0;
    if (!d->config)
        return err_set(err, -ENOTCONN,
                "no socket was handed over, and a refused configuration names none, ending");
    _cleanup_free_ char *addresses = strdup(d->config->daemon.listen_http);
    if (!addresses)
        return err_set(err, -ENOMEM, "no memory for addresses");
    r = 0;
    char *rest = NULL;
    for (char *a = strtok_r(addresses, " ", &rest); a && r == 0; a = strtok_r(NULL, " ", &rest))
        r = listen_open(&d->listen, a, err);
    if (r == 0 && d->config->daemon.listen_api[0])
        r = listen_open(&d->listen, d->config->daemon.listen_api, err);
    if (r == 0 && d->listen.n_http + d->listen.n_api == 0)
        return err_set(err, -ENOTCONN, "no socket was handed over and none is configured");
    return r;
}

static int open_http(Daemon *d, Err *err) {
    int fds[2 * LISTEN_MAX];
    size_t n = 0;
    for (int i = 0; i < d->listen.n_http; i++)
        fds[n++] = d->listen.http[i];
    for (int i = 0; i < d->listen.n_api; i++)
        fds[n++] = d->listen.api[i];
    const HttpServerOptions options = {
            .fds = fds,
            .n_fds = n,
            .jobs = d->jobs,
            .metrics = d->metrics,
            .token = d->token,
            .allowed_hosts = d->config ? d->config->daemon.allowed_hosts : NULL,
            .describe = describe,
            .admit = admit,
            .context = d,
    };
    return http_server_new(&options, &d->http, err);
}

static int open_jobs(Daemon *d, Err *err) {
    const Config *c = d->config;
    const JobQueueOptions options = {
            .state_dir = c->jobs.state_dir,
            .queue_limit = c->daemon.queue_limit,
            .client_limit = c->daemon.client_limit,
            .retention_sec = (int64_t)(c->jobs.retention_usec / USEC_PER_SEC),
            .max_stored_bytes = c->jobs.max_stored_bytes,
            .memory_retries = (int)c->daemon.start_retries,
            .memory_delay_usec = c->daemon.start_retry_delay_usec,
            .resume = c->jobs.resume == CONFIG_RESUME_FAIL ? JOB_RESUME_FAIL : JOB_RESUME_REQUEUE,
            .metrics = d->metrics,
            .run = run_job,
            .begin = worker_begins,
            .idle = worker_idles,
            .finished = log_job,
            .changed = wake,
            .context = d,
    };
    return job_queue_open(&options, &d->jobs, err);
}

static void refuse_for_directory(Daemon *d, const Err *why) {
    refuse(d, "Jobs cannot be kept", why);
    leave_after(d, CONTENDED_USEC);
}

/* The model's start is under way by now: nothing of it waits for the history. */
static void read_jobs(Daemon *d) {
    Err err = {0};
    if (job_queue_resume(d->jobs, &err) < 0) {
        d->jobs = job_queue_close(d->jobs);
        startup_cancel(d->startup);
        d->startup = startup_free(d->startup);
        refuse_for_directory(d, &err);
    } else if (job_queue_warning(d->jobs)) {
        log_warning("%s", job_queue_warning(d->jobs));
    }
}

static int begin_startup(Daemon *d, Err *err) {
    d->begun_usec = clock_usec();
    int r = startup_begin(d->config, &d->listen, wake, d, &d->startup, err);
    if (r == 0)
        report_read(d->config->jobs.state_dir, &d->last_start);
    return r;
}

static int open_loop(Daemon *d, Err *err) {
    int r = loop_new(&d->loop, err);
    if (r == 0)
        r = loop_add_signal(d->loop, SIGTERM, stop, d, &d->terminate, err);
    if (r == 0)
        r = loop_add_signal(d->loop, SIGINT, stop, d, &d->interrupt, err);
    if (r == 0)
        r = loop_add_signal(d->loop, SIGHUP, reload, d, &d->hangup, err);
    if (r == 0)
        r = loop_add_wake(d->loop, look_around, d, &d->wake, err);
    if (r == 0)
        r = loop_add_timer(d->loop, serve_http, d, &d->http_timer, err);
    if (r == 0)
        r = loop_add_timer(d->loop, give_up_waiting, d, &d->stop_timer, err);
    if (r == 0)
        r = loop_add_timer(d->loop, try_again, d, &d->again, err);
    if (r == 0)
        r = watchdog_new(d->loop, NULL, NULL, &d->watchdog, err);
    return r;
}

/* Sockets that systemd does not hold would be gone with us. */
static uint64_t idle_usec(const Daemon *d) {
    if (!d->listen.inherited)
        return 0;
    return d->config ? d->config->daemon.idle_exit_usec : REFUSED_IDLE_USEC;
}

/* Whoever has the state directory may be on its way out: it is tried again, with connections
 * waiting in their sockets, then refused. Returns whether to wait. */
static bool wait_for_directory(Daemon *d, const Err *why) {
    const Config *c = d->config;
    if (d->n_contended >= c->daemon.start_retries)
        return false;
    if (d->n_contended == 0)
        log_notice("Jobs cannot be kept yet: %s, trying again", err_text(why));
    uint64_t delay = c->daemon.start_retry_delay_usec << d->n_contended++;
    notify_extend(delay + PROGRESS_USEC);
    loop_timer_set(d->again, delay);
    return true;
}

/* Once there are configuration and sockets. What is refused by now keeps no jobs: without its token
 * everybody could have them. */
static int begin(Daemon *d, Err *err) {
    Err why = {0};
    int r = d->refusal[0] ? 0 : open_jobs(d, &why);
    if (r == -EBUSY && wait_for_directory(d, &why))
        return 0;
    if (d->refusal[0])
        leave_after(d, REFUSED_USEC);
    if (r < 0)
        refuse_for_directory(d, &why);
    r = d->refusal[0] ? 0 : begin_startup(d, err);
    if (r == 0 && d->jobs)
        read_jobs(d);
    if (r == 0)
        r = open_http(d, err);
    if (r == 0)
        r = idle_new(d->loop, idle_usec(d), leave_when_idle, d, &d->idle, err);
    if (r == 0)
        r = loop_add_fd(d->loop, http_server_fd(d->http), EPOLLIN, serve_http, d, &d->http_fd, err);
    if (r < 0 || d->refusal[0])
        return r;
    apply_settings(d);
    struct stat st;
    if (stat(configured_where(d->config), &st) == 0)
        d->model_created = st.st_mtim.tv_sec;
    return job_queue_start(d->jobs, err);
}

static void try_again(void *context, uint32_t events) {
    Daemon *d = context;
    Err err = {0};
    if (d->stopping)
        return;
    if (d->refusal[0]) {
        log_info("Leaving; the next request starts the service again");
        stop(d, 0);
    } else if (begin(d, &err) < 0) {
        log_error("%s", err_text(&err));
        loop_exit(d->loop, EXIT_FAILURE);
    } else {
        look_around(d, 0);
    }
}

/* All that can fail for an operator's reason comes after the sockets and is refused, not fatal. */
static int open_daemon(Daemon *d, Err *err) {
    Err why = {0};
    if (variant_load(d->config_path, &d->variant, &d->config, &why) < 0) {
        const char *const fields[] = {LOG_ID_CONFIG_REFUSED, NULL};
        log_line(LOG_ERR, fields, "Configuration refused: %s, answering 503", err_text(&why));
        (void)snprintf(d->refusal, sizeof(d->refusal), "Configuration refused: %s", err_text(&why));
    }
    d->settings = d->config;
    err_clear(&why);
    if (d->config && settings_degrade(d->config, &d->degrade, &why) < 0)
        refuse(d, "Configuration refused", &why);
    err_clear(&why);
    if (token_read(&d->token, &why) < 0)
        refuse(d, "The API token cannot be used", &why);
    int r = open_loop(d, err);
    if (r == 0)
        r = open_sockets(d, err);
    if (r < 0)
        return r;
    d->metrics = metrics_new();
    if (!d->metrics)
        return err_set(err, -ENOMEM, "no memory for metrics");
    d->before_usec = report_before_usec();
    return begin(d, err);
}

/* status: of the process, which a driver that does not answer would keep for ever. */
static void close_daemon(Daemon *d, int status) {
    if (d->jobs)
        job_queue_interrupt(d->jobs);
    startup_cancel(d->startup);
    d->jobs = job_queue_close(d->jobs);
    if (d->told_start) { /* now, when nobody waits for the disk */
        const char *dir = d->config->jobs.state_dir;
        report_keep(d->startup, dir, &d->state, &d->last_start);
        variant_keep(&d->variant, dir, &d->state, report_seconds(d->startup, d->before_usec));
    }
    if (startup_settle(d->startup, LAST_STEP_USEC) < 0) {
        log_warning("A step of the start does not answer, ending without it");
        listen_done(&d->listen);
        _exit(status);
    }
    d->startup = startup_free(d->startup);
    d->http = http_server_free(d->http);
    d->idle = idle_free(d->idle);
    d->watchdog = watchdog_free(d->watchdog);
    LoopSource *sources[] = {d->terminate, d->interrupt, d->hangup, d->wake, d->http_fd,
            d->http_timer, d->stop_timer, d->again};
    for (size_t i = 0; i < ARRAY_LEN(sources); i++)
        loop_source_free(sources[i]);
    d->loop = loop_free(d->loop);
    d->metrics = metrics_free(d->metrics);
    listen_done(&d->listen);
    if (d->settings != d->config)
        config_free(d->settings);
    d->config = config_free(d->config);
    free(d->detail);
    free(d->token);
    variant_done(&d->variant);
}

/* The driver makes eight queues for kernels, 10 ms of a start each; there are two streams at most
 * that compute or copy at once. An operator's own value stays. */
static void limit_cuda_queues(void) {
    (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "2", 0); /* without memory for it: as before */
}

int main(int argc, char **argv) {
    log_open("preheatd");
    limit_cuda_queues();
    Daemon d = {0};
    listen_init(&d.listen);
    int status = arguments_parse(argc, argv, &d.config_path);
    if (status >= 0)
        return status;
    loop_hold_signals(); /* one that ends a start fails it, and has systemd wait */
    (void)signal(SIGPIPE, SIG_IGN);
    Err err = {0};
    int r = open_daemon(&d, &err);
    if (r == 0) {
        look_around(&d, 0);
        r = loop_run(d.loop, &err);
    }
    if (r < 0)
        log_error("%s", err_text(&err));
    status = r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    close_daemon(&d, status);
    return status;
}
