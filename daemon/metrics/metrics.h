/* metrics - counters, gauges and histograms with their Prometheus text.
 *
 * All are registered before a second thread starts; after that any thread counts, without a lock.
 * A registration that runs out of memory is remembered: counting then goes nowhere and
 * metrics_failed() tells, so that the caller checks once at its end. */
#ifndef PREHEAT_METRICS_METRICS_H
#define PREHEAT_METRICS_METRICS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct Metrics Metrics;
typedef struct Metric Metric;

Metrics *metrics_new(void); /* NULL when out of memory */
Metrics *metrics_free(Metrics *m);
bool metrics_failed(const Metrics *m);

/* metrics_counter, metrics_gauge, metrics_histogram - one series.
 *
 *   name    of the family, [a-z_][a-z0-9_]*; series of one family share type, help and bounds
 *   labels  `state="failed"` as it stands in the text, or NULL
 *   help    static text, one line
 *   bounds  ascending upper bounds of the buckets, static; +Inf is added
 *
 * Asserted: a series exists once. Owned by m. */
Metric *metrics_counter(Metrics *m, const char *name, const char *labels, const char *help);
Metric *metrics_gauge(Metrics *m, const char *name, const char *labels, const char *help);
Metric *metrics_histogram(Metrics *m, const char *name, const char *labels, const char *help,
        const double *bounds, size_t n_bounds);

/* metric_add - counters (by >= 0, asserted) and gauges. metric_set - gauges. metric_observe -
 * histograms. */
void metric_add(Metric *metric, double by);
void metric_set(Metric *metric, double value);
void metric_observe(Metric *metric, double value);

/* metrics_text - the exposition format, version 0.0.4, appended to text. A histogram that is being
 * observed may show a sum and a count one apart; both are right on the next read. */
void metrics_text(const Metrics *m, Buf *text);

#endif
