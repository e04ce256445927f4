#include "job/queue-impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "job/job-files.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* What one run needs; used without the lock. */
typedef struct Run {
    Job job;
    Request request;
    Digest image;
} Run;

static int run_open(JobQueue *q, const Live *l, Run *run, Err *err) {
    JobRow row;
    job_queue_lock(q);
    int r = job_table_get(q->table, l->id, &row, err);
    job_queue_unlock(q);
    if (r < 0)
        return r;
    if (row.damaged) {
        r = err_set(err, -EBADMSG, "%s", row.info.error_message);
        job_info_done(&row.info);
        return r;
    }
    run->request = row.info.request;
    row.info.request = (Request){0};
    job_info_done(&row.info);
    if (run->request.image_bytes)
        r = job_files_load_image(
                q->dir_fd, l->id, run->request.image_bytes, &row.image, &run->request.image, err);
    if (r == 0)
        r = job_files_create(q->dir_fd, l->id, JOB_FILE_VIDEO, &run->job.video_fd, err);
    if (r == 0)
        r = job_files_create(q->dir_fd, l->id, JOB_FILE_THUMBNAIL, &run->job.thumbnail_fd, err);
    return r;
}

static int publish(JobQueue *q, const Live *l, const Run *run, JobOutcome *o, Err *err) {
    int r = job_files_publish(
            q->dir_fd, l->id, JOB_FILE_THUMBNAIL, run->job.thumbnail_fd, &o->thumbnail_bytes, err);
    if (r == 0)
        r = job_files_publish(
                q->dir_fd, l->id, JOB_FILE_VIDEO, run->job.video_fd, &o->video_bytes, err);
    if (r == 0 && o->video_bytes == 0)
        r = err_set(err, -ENODATA, "the run ended without a video");
    return r;
}

/* Runs one job; the worker alone touches l->progress besides the cancel flag. */
static int run_once(JobQueue *q, Live *l, JobOutcome *o, Err *err) {
    Run run = {.job = {.id = l->id, .video_fd = -1, .thumbnail_fd = -1}};
    run.job.request = &run.request;
    run.job.progress = &l->progress;
    int r = run_open(q, l, &run, err);
    static_assert(sizeof(run.job.report.degraded) >= REQUEST_DEGRADED_SIZE, "the text fits");
    memcpy(run.job.report.degraded, run.request.degraded, REQUEST_DEGRADED_SIZE);
    if (r == 0)
        r = q->options.run(q->options.context, &run.job, err);
    if (r == 0)
        r = publish(q, l, &run, o, err);
    o->report = run.job.report;
    for (int p = 0; p < N_PHASES; p++)
        o->phase_usec[p] = atomic_load_explicit(&l->progress.phase_usec[p], memory_order_relaxed);
    fd_closep(&run.job.video_fd);
    fd_closep(&run.job.thumbnail_fd);
    request_done(&run.request);
    return r;
}

static void fill_outcome(JobQueue *q, const Live *l, int r, const Err *err, JobOutcome *o) {
    int64_t now = clock_unix_sec();
    if (r == 0) {
        o->state = JOB_COMPLETED;
        o->completed_at = now;
        o->expires_at = job_queue_expiry(q, now);
        return;
    }
    JobOutcome f = l->cancelled     ? job_queue_failure(q, "cancelled", "the job was cancelled")
                   : l->interrupted ? job_queue_failure(q, "interrupted",
                                              "the daemon stopped while the job ran")
                                    : job_queue_failure(q, job_error_code(r),
                                              err->code ? err_text(err) : strerror(-r));
    f.report = o->report;
    memcpy(f.phase_usec, o->phase_usec, sizeof(f.phase_usec));
    *o = f;
}

/* Back into the queue, as if it had never begun; its place is what it was. */
static void put_back(JobQueue *q, Live *l) {
    (void)job_table_requeue(q->table, l->id, true, NULL); /* else the next start does it */
    for (int p = 0; p < N_PHASES; p++)
        atomic_store(&l->progress.phase_usec[p], 0);
    atomic_store(&l->progress.phase, PHASE_QUEUED);
    atomic_store(&l->progress.cancelled, false);
    l->running = l->interrupted = false;
}

/* What somebody else has of the memory, at a start often an earlier process, may be free soon. */
static bool put_off(JobQueue *q, Live *l, int r, const Err *err) {
    if (r != -ENOMEM || l->cancelled || l->interrupted || l->n_short >= q->options.memory_retries)
        return false;
    put_back(q, l);
    l->not_before_usec = clock_deadline(q->options.memory_delay_usec << l->n_short++);
    l->outcome = job_queue_failure(q, job_error_code(r), err_text(err));
    return true;
}

static void settle(JobQueue *q, Live *l, int r, const Err *err, JobOutcome *o) {
    job_files_remove_parts(q->dir_fd, l->id);
    if (put_off(q, l, r, err)) {
        job_queue_changed(q);
        return;
    }
    if (r < 0 && l->interrupted && !l->cancelled && q->options.resume == JOB_RESUME_REQUEUE) {
        put_back(q, l);
    } else {
        Request shape = l->shape;
        fill_outcome(q, l, r, err, o);
        if (r == 0)
            estimate_learn(&q->estimate, &shape, o->phase_usec);
        queue_metrics_count(&q->metrics, o, clock_usec() - l->began_usec);
        live_end(q, l, o);
    }
    (void)job_queue_drop_expired(q, NULL); /* tried again with the next job */
    job_queue_changed(q);
}

static void work_on(JobQueue *q, Live *l) {
    char id[JOB_ID_SIZE];
    Err err = {0};
    JobOutcome o = {0};
    job_id_copy(id, l->id);
    l->running = q->untold = true;
    l->began_usec = clock_usec();
    /* Where this cannot be written, the outcome will not be either, and is kept in memory. */
    (void)job_table_start(q->table, id, clock_unix_sec(), NULL);
    job_queue_changed(q);
    job_queue_unlock(q);

    int r = run_once(q, l, &o, &err);

    job_queue_lock(q);
    settle(q, l, r, &err, &o);
    JobInfo info;
    Live *put_back = live_find(q, id); /* or one whose end could not be written */
    bool told = put_back && !put_back->ended && put_back->n_short > 1;
    if (q->options.finished && !told && job_queue_info(q, id, &info, NULL) == 0) {
        job_queue_unlock(q);
        q->options.finished(q->options.context, &info);
        job_info_done(&info);
        job_queue_lock(q);
    }
}

/* Unix seconds when the next result is past its time, 0: never. */
static int64_t next_expiry(JobQueue *q) {
    static const int64_t patience_sec = 60; /* before what cannot be removed is tried again */
    int64_t next = 0, now = clock_unix_sec();
    if (job_table_next_expiry(q->table, &next, NULL) == 0 && next > 0 && next <= now) {
        (void)job_queue_drop_expired(q, NULL);
        if (job_table_next_expiry(q->table, &next, NULL) == 0 && next > 0)
            next = MAX(next, now + patience_sec);
    }
    return next;
}

static struct timespec timespec_of(uint64_t usec) {
    return (struct timespec){
            .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_nsec = (long)(usec % USEC_PER_SEC) * 1000};
}

/* Until somebody wakes us, a result's time is over, or a job that was put off may run again: the
 * one is told by the wall's clock, which may be set meanwhile, the other by the steady one. */
static void wait_for_work(JobQueue *q) {
    int64_t expiry = next_expiry(q), now = clock_unix_sec();
    uint64_t due = q->draining ? USEC_INFINITY : live_due(q);
    uint64_t before_expiry = expiry == 0    ? USEC_INFINITY
                             : expiry > now ? (uint64_t)(expiry - now) * USEC_PER_SEC
                                            : 0;
    struct timespec until;
    if (due != USEC_INFINITY && clock_left(due) <= before_expiry) {
        until = timespec_of(due);
        (void)pthread_cond_clockwait(&q->wake, &q->lock, CLOCK_MONOTONIC, &until);
    } else if (expiry > 0) {
        until = (struct timespec){.tv_sec = expiry};
        (void)pthread_cond_timedwait(&q->wake, &q->lock, &until);
    } else {
        (void)pthread_cond_wait(&q->wake, &q->lock); /* cannot fail on these */
    }
}

/* A job that came meanwhile is found before the next wait. */
static void tell_idle(JobQueue *q) {
    q->untold = false;
    job_queue_unlock(q);
    q->options.idle(q->options.context);
    job_queue_lock(q);
}

void *worker_main(void *context) {
    JobQueue *q = context;
    if (q->options.begin)
        q->options.begin(q->options.context);
    job_queue_lock(q);
    while (!q->stopping) {
        Live *l = q->draining ? NULL : live_next(q);
        if (l)
            work_on(q, l);
        else if (q->untold && q->options.idle)
            tell_idle(q);
        else
            wait_for_work(q);
    }
    job_queue_unlock(q);
    if (q->options.end)
        q->options.end(q->options.context);
    return NULL;
}
