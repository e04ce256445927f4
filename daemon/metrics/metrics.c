#include "metrics/metrics.h"

#include "base/str.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum Kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM } Kind;

struct Metric {
    Kind kind;
    const char *name, *labels, *help;
    const double *bounds;
    size_t n_bounds;
    _Atomic double value;      /* the sum of a histogram */
    _Atomic uint64_t *buckets; /* [n_bounds + 1], each value in one of them only */
};

struct Metrics {
    Metric **list; /* in order of registration */
    size_t n;
    bool failed;
    Metric nowhere[3]; /* one of each kind, for those that found no memory */
};

Metrics *metrics_new(void) {
    Metrics *m = calloc(1, sizeof(*m));
    for (int kind = 0; m && kind <= KIND_HISTOGRAM; kind++)
        m->nowhere[kind].kind = (Kind)kind;
    return m;
}

static void metric_free(Metric *metric) {
    if (metric)
        free(metric->buckets);
    free(metric);
}

Metrics *metrics_free(Metrics *m) {
    for (size_t i = 0; m && i < m->n; i++)
        metric_free(m->list[i]);
    if (m)
        free(m->list);
    free(m);
    return NULL;
}

bool metrics_failed(const Metrics *m) {
    return m->failed;
}

static bool same_labels(const Metric *a, const Metric *b) {
    return a->labels && b->labels ? str_eq(a->labels, b->labels) : a->labels == b->labels;
}

static bool fits(const Metrics *m, const Metric *metric) {
    for (size_t i = 0; i < m->n; i++)
        if (str_eq(m->list[i]->name, metric->name) &&
                (m->list[i]->kind != metric->kind || same_labels(m->list[i], metric)))
            return false;
    return true;
}

static Metric *add(Metrics *m, Metric wanted) {
    assert(fits(m, &wanted));
    Metric *metric = calloc(1, sizeof(*metric));
    Metric **list = metric ? realloc(m->list, (m->n + 1) * sizeof(Metric *)) : NULL;
    if (list)
        m->list = list;
    if (list && wanted.kind == KIND_HISTOGRAM)
        wanted.buckets = calloc(wanted.n_bounds + 1, sizeof(*wanted.buckets));
    if (!list || (wanted.kind == KIND_HISTOGRAM && !wanted.buckets)) {
        free(metric);
        m->failed = true;
        return &m->nowhere[wanted.kind];
    }
    *metric = wanted;
    m->list[m->n++] = metric;
    return metric;
}

Metric *metrics_counter(Metrics *m, const char *name, const char *labels, const char *help) {
    return add(m, (Metric){.kind = KIND_COUNTER, .name = name, .labels = labels, .help = help});
}

Metric *metrics_gauge(Metrics *m, const char *name, const char *labels, const char *help) {
    return add(m, (Metric){.kind = KIND_GAUGE, .name = name, .labels = labels, .help = help});
}

Metric *metrics_histogram(Metrics *m, const char *name, const char *labels, const char *help,
        const double *bounds, size_t n_bounds) {
    for (size_t i = 1; i < n_bounds; i++)
        assert(bounds[i] > bounds[i - 1]);
    return add(m, (Metric){.kind = KIND_HISTOGRAM,
                          .name = name,
                          .labels = labels,
                          .help = help,
                          .bounds = bounds,
                          .n_bounds = n_bounds});
}

/* Relaxed: a count orders nothing. */
static void add_double(_Atomic double *to, double by) {
    double was = atomic_load_explicit(to, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
            to, &was, was + by, memory_order_relaxed, memory_order_relaxed)) {
    }
}

void metric_add(Metric *metric, double by) {
    assert(metric->kind == KIND_GAUGE || (metric->kind == KIND_COUNTER && by >= 0));
    add_double(&metric->value, by);
}

void metric_set(Metric *metric, double value) {
    assert(metric->kind == KIND_GAUGE);
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

void metric_observe(Metric *metric, double value) {
    assert(metric->kind == KIND_HISTOGRAM);
    if (!metric->buckets)
        return; /* registered without memory */
    size_t i = 0;
    while (i < metric->n_bounds && value > metric->bounds[i])
        i++;
    atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
    add_double(&metric->value, value);
}

/* name suffix { labels , extra } with what is there of them. */
static void print_name(const Metric *metric, const char *suffix, const char *extra, Buf *text) {
    const char *labels = metric->labels ? metric->labels : "";
    buf_printf(text, "%s%s", metric->name, suffix);
    if (*labels || *extra)
        buf_printf(text, "{%s%s%s}", labels, *labels && *extra ? "," : "", extra);
}

static void print_histogram(const Metric *metric, Buf *text) {
    uint64_t count = 0;
    for (size_t i = 0; i <= metric->n_bounds; i++) {
        char le[48];
        if (i < metric->n_bounds)
            (void)snprintf(le, sizeof(le), "le=\"%.15g\"", metric->bounds[i]);
        else
            (void)snprintf(le, sizeof(le), "le=\"+Inf\"");
        count += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        print_name(metric, "_bucket", le, text);
        buf_printf(text, " %ju\n", (uintmax_t)count);
    }
    print_name(metric, "_sum", "", text);
    buf_printf(text, " %.15g\n", atomic_load_explicit(&metric->value, memory_order_relaxed));
    print_name(metric, "_count", "", text);
    buf_printf(text, " %ju\n", (uintmax_t)count);
}

static void print_series(const Metric *metric, Buf *text) {
    if (metric->kind == KIND_HISTOGRAM) {
        print_histogram(metric, text);
        return;
    }
    print_name(metric, "", "", text);
    buf_printf(text, " %.15g\n", atomic_load_explicit(&metric->value, memory_order_relaxed));
}

static bool first_of_family(const Metrics *m, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (str_eq(m->list[j]->name, m->list[i]->name))
            return false;
    return true;
}

void metrics_text(const Metrics *m, Buf *text) {
    static const char *const kinds[] = {
            [KIND_COUNTER] = "counter", [KIND_GAUGE] = "gauge", [KIND_HISTOGRAM] = "histogram"};
    for (size_t i = 0; i < m->n; i++) {
        const Metric *metric = m->list[i];
        if (!first_of_family(m, i))
            continue;
        buf_printf(text, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
                kinds[metric->kind]);
        for (size_t j = i; j < m->n; j++)
            if (str_eq(m->list[j]->name, metric->name))
                print_series(m->list[j], text);
    }
}
