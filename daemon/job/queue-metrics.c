#include "job/queue-metrics.h"

#include "base/str.h"

/* From a distilled clip on a fast card to a 720p clip on a slow one. */
static const double bounds[] = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500};

static const char *const phase_labels[N_PHASES] = {
        [PHASE_LOADING] = "phase=\"loading\"",
        [PHASE_ENCODING_TEXT] = "phase=\"encoding_text\"",
        [PHASE_ENCODING_IMAGE] = "phase=\"encoding_image\"",
        [PHASE_DENOISING] = "phase=\"denoising\"",
        [PHASE_DECODING] = "phase=\"decoding\"",
        [PHASE_ENCODING_VIDEO] = "phase=\"encoding_video\"",
};

static const char *const start_labels[N_JOB_STARTS] = {
        [JOB_START_COLD_DISK] = "start=\"cold_disk\"",
        [JOB_START_COLD_HOST] = "start=\"cold_host\"",
        [JOB_START_PARKED] = "start=\"parked\"",
        [JOB_START_HOT] = "start=\"hot\"",
};

void queue_metrics_init(QueueMetrics *qm, Metrics *m) {
    static const char jobs[] = "preheat_jobs_total", jobs_help[] = "Jobs that ended, by outcome.";
    *qm = (QueueMetrics){0};
    if (!m)
        return;
    qm->completed = metrics_counter(m, jobs, "outcome=\"completed\"", jobs_help);
    qm->failed = metrics_counter(m, jobs, "outcome=\"failed\"", jobs_help);
    qm->cancelled = metrics_counter(m, jobs, "outcome=\"cancelled\"", jobs_help);
    qm->queued = metrics_gauge(m, "preheat_jobs_queued", NULL, "Jobs that wait.");
    qm->running = metrics_gauge(m, "preheat_jobs_running", NULL, "Jobs in the worker's hands.");
    qm->seconds = metrics_histogram(m, "preheat_job_seconds", NULL,
            "Time of completed jobs, from their start to their file.", bounds, ARRAY_LEN(bounds));
    for (int s = 0; s < N_JOB_STARTS; s++)
        if (start_labels[s])
            qm->starts[s] = metrics_counter(m, "preheat_job_starts_total", start_labels[s],
                    "Completed jobs, by where they found the weights.");
    for (int p = 0; p < N_PHASES; p++)
        if (phase_labels[p])
            qm->phase_seconds[p] =
                    metrics_histogram(m, "preheat_job_phase_seconds", phase_labels[p],
                            "Time of completed jobs in each phase.", bounds, ARRAY_LEN(bounds));
}

void queue_metrics_set_load(QueueMetrics *qm, size_t n_queued, bool running) {
    if (!qm->queued)
        return;
    metric_set(qm->queued, (double)n_queued);
    metric_set(qm->running, running);
}

void queue_metrics_count(QueueMetrics *qm, const JobOutcome *o, uint64_t usec) {
    if (!qm->completed)
        return;
    if (o->state != JOB_COMPLETED) {
        metric_add(str_eq(o->error_code, "cancelled") ? qm->cancelled : qm->failed, 1);
        return;
    }
    metric_add(qm->completed, 1);
    metric_observe(qm->seconds, (double)usec / 1e6);
    if (qm->starts[o->report.start])
        metric_add(qm->starts[o->report.start], 1);
    for (int p = 0; p < N_PHASES; p++)
        if (qm->phase_seconds[p] && o->phase_usec[p])
            metric_observe(qm->phase_seconds[p], (double)o->phase_usec[p] / 1e6);
}
