#include "test.h"

#include "metrics/metrics.h"

#include <pthread.h>
#include <string.h>

static const double bounds[] = {0.5, 1, 10};

static void text_is_prometheus(void **state) {
    Metrics *m = metrics_new();
    Metric *done = metrics_counter(m, "preheat_jobs_total", "state=\"completed\"", "Jobs ended.");
    Metric *queued = metrics_gauge(m, "preheat_queue_jobs", NULL, "Jobs waiting.");
    Metric *failed = metrics_counter(m, "preheat_jobs_total", "state=\"failed\"", "Jobs ended.");
    Metric *seconds = metrics_histogram(
            m, "preheat_job_seconds", "phase=\"decoding\"", "Time.", bounds, ARRAY_LEN(bounds));
    assert_false(metrics_failed(m));
    metric_add(done, 1);
    metric_add(done, 2);
    metric_add(failed, 0.5);
    metric_set(queued, 7);
    metric_add(queued, -3);
    metric_observe(seconds, 0.5);
    metric_observe(seconds, 0.75);
    metric_observe(seconds, 100);
    Buf text = {0};
    metrics_text(m, &text);
    assert_string_equal(text.data, "# HELP preheat_jobs_total Jobs ended.\n"
                                   "# TYPE preheat_jobs_total counter\n"
                                   "preheat_jobs_total{state=\"completed\"} 3\n"
                                   "preheat_jobs_total{state=\"failed\"} 0.5\n"
                                   "# HELP preheat_queue_jobs Jobs waiting.\n"
                                   "# TYPE preheat_queue_jobs gauge\n"
                                   "preheat_queue_jobs 4\n"
                                   "# HELP preheat_job_seconds Time.\n"
                                   "# TYPE preheat_job_seconds histogram\n"
                                   "preheat_job_seconds_bucket{phase=\"decoding\",le=\"0.5\"} 1\n"
                                   "preheat_job_seconds_bucket{phase=\"decoding\",le=\"1\"} 2\n"
                                   "preheat_job_seconds_bucket{phase=\"decoding\",le=\"10\"} 2\n"
                                   "preheat_job_seconds_bucket{phase=\"decoding\",le=\"+Inf\"} 3\n"
                                   "preheat_job_seconds_sum{phase=\"decoding\"} 101.25\n"
                                   "preheat_job_seconds_count{phase=\"decoding\"} 3\n");
    buf_done(&text);
    assert_null(metrics_free(m));
}

static void *count(void *metric) {
    for (int i = 0; i < 10000; i++)
        metric_add(metric, 1);
    return NULL;
}

static void threads_lose_no_count(void **state) {
    Metrics *m = metrics_new();
    Metric *c = metrics_counter(m, "c", NULL, "C.");
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, c), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    Buf text = {0};
    metrics_text(m, &text);
    assert_non_null(strstr(text.data, "c 40000\n"));
    buf_done(&text);
    (void)metrics_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(text_is_prometheus),
            cmocka_unit_test(threads_lose_no_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
