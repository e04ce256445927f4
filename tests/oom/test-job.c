#include "oom.h"

#include "base/cleanup.h"
#include "job/queue.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>

static int never(void *context, Job *job, Err *err) {
    assert(false); /* the worker is not started */
    return -EINVAL;
}

static int look(JobQueue *q, char ids[][JOB_ID_SIZE], Err *err) {
    JobInfo info, *list;
    size_t n;
    bool more;
    int r = job_queue_get(q, ids[0], &info, err);
    if (r < 0)
        return r;
    job_info_done(&info);
    r = job_queue_list(q, &(JobListQuery){.limit = 1}, &list, &n, &more, err);
    if (r < 0)
        return r;
    (void)job_list_free(list, n);
    Request back;
    r = job_queue_request(q, ids[1], &back, err);
    if (r == 0)
        request_done(&back);
    return r;
}

/* Opens, submits two with a picture, looks at them and deletes them. */
static int life(void *context, Err *err) {
    JobQueueOptions o = {.state_dir = context, .queue_limit = 100, .run = never};
    Request r = {.prompt = (char *)"p",
            .negative_prompt = (char *)"",
            .image = (void *)"PICTURE",
            .image_bytes = 7,
            .width = 32,
            .height = 32,
            .num_frames = 1,
            .steps = 1,
            .fps = 24,
            .has_seed = true,
            .n = 2};
    char ids[2][JOB_ID_SIZE];
    JobQueue *q = NULL;
    int k = job_queue_open(&o, &q, err);
    if (k < 0)
        return k;
    k = job_queue_resume(q, err);
    if (k < 0) {
        job_queue_close(q);
        return k;
    }
    k = job_queue_submit(q, &r, NULL, ids, err);
    if (k == 0) {
        k = look(q, ids, err);
        /* Also after a failure: the next round must not find ever more jobs. */
        for (int i = 0; i < 2; i++) {
            Err *where = k == 0 ? err : NULL;
            int d = job_queue_delete(q, ids[i], where);
            if (d < 0)
                (void)job_queue_delete(q, ids[i], NULL);
            k = k == 0 ? d : k;
        }
    }
    (void)job_queue_close(q);
    return k;
}

static int metrics(void *context, Err *err) {
    static const double bounds[] = {1, 2};
    Metrics *m = metrics_new();
    if (!m)
        return err_set(err, -ENOMEM, "no memory for the metrics");
    Buf text = {0};
    metric_add(metrics_counter(m, "a", NULL, "A."), 1);
    metric_set(metrics_gauge(m, "b", NULL, "B."), 1);
    metric_observe(metrics_histogram(m, "c", NULL, "C.", bounds, 2), 1);
    metrics_text(m, &text);
    bool failed = metrics_failed(m) || buf_failed(&text);
    buf_done(&text);
    (void)metrics_free(m);
    return failed ? err_set(err, -ENOMEM, "no memory for the metrics") : 0;
}

static void remove_all(const char *dir) {
    static const char *const names[] = {
            "lock", "jobs.db", "jobs.db-wal", "jobs.db-shm", "videos", "jobs"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[100];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)remove(path);
    }
    int r = rmdir(dir);
    assert(r == 0); /* nothing else was left in it */
}

int main(void) {
    json_set_alloc_funcs(oom_malloc, free);
    char dir[] = "/tmp/preheat-oom-XXXXXX";
    char *made = mkdtemp(dir);
    assert(made);
    oom_count_up("metrics", metrics, NULL, 5);
    oom_count_up("life of two jobs", life, dir, 15);
    remove_all(dir);
    return 0;
}
