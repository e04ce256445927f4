/* queue-metrics - what the job queue counts. */
#ifndef PREHEAT_JOB_QUEUE_METRICS_H
#define PREHEAT_JOB_QUEUE_METRICS_H

#include "job/job-table.h"
#include "metrics/metrics.h"

typedef struct QueueMetrics {
    Metric *completed, *failed, *cancelled; /* NULL, as all here, when nothing is counted */
    Metric *queued, *running;
    Metric *starts[N_JOB_STARTS];
    Metric *seconds, *phase_seconds[N_PHASES];
} QueueMetrics;

void queue_metrics_init(QueueMetrics *qm, Metrics *m); /* m may be NULL */
void queue_metrics_set_load(QueueMetrics *qm, size_t n_queued, bool running);

/* queue_metrics_count - a job that ended after usec in the worker's hands. */
void queue_metrics_count(QueueMetrics *qm, const JobOutcome *outcome, uint64_t usec);

#endif
