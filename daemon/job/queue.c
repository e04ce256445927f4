#include "job/queue-impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "job/job-files.h"
#include "request/request-canonical.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>

/* As many completed jobs are read at the start to estimate from. */
#define LEARN_FROM 16

void job_queue_lock(JobQueue *q) {
    int r = pthread_mutex_lock(&q->lock);
    assert(r == 0); /* never destroyed while in use, never taken twice */
}

void job_queue_unlock(JobQueue *q) {
    int r = pthread_mutex_unlock(&q->lock);
    assert(r == 0);
}

void job_queue_changed(JobQueue *q) {
    queue_metrics_set_load(&q->metrics, live_count_queued(q), live_running(q) != NULL);
    (void)pthread_cond_signal(&q->wake); /* there may be a job, or an earlier expiry */
    if (q->options.changed)
        q->options.changed(q->options.context);
}

int64_t job_queue_expiry(const JobQueue *q, int64_t completed_at) {
    return q->options.retention_sec > 0 ? completed_at + q->options.retention_sec : 0;
}

JobOutcome job_queue_failure(const JobQueue *q, const char *code, const char *message) {
    int64_t now = clock_unix_sec();
    JobOutcome o = {.state = JOB_FAILED,
            .completed_at = now,
            .expires_at = job_queue_expiry(q, now),
            .error_code = code};
    (void)snprintf(o.error_message, sizeof(o.error_message), "%s", message);
    str_mend_utf8(o.error_message); /* else it could not be read again */
    return o;
}

void job_queue_write_unwritten(JobQueue *q) {
    for (size_t i = q->n_live; i-- > 0;)
        if (q->live[i]->ended &&
                job_table_finish(q->table, q->live[i]->id, &q->live[i]->outcome, NULL) == 0)
            live_drop(q, q->live[i]);
}

static int remove_job(JobQueue *q, const char *id, Err *err) {
    int r = job_files_remove(q->dir_fd, id, err);
    return r < 0 ? r : job_table_remove(q->table, id, err);
}

int job_queue_drop_expired(JobQueue *q, Err *err) {
    char id[JOB_ID_SIZE];
    int r;
    job_queue_write_unwritten(q);
    while ((r = job_table_next_expired(
                    q->table, clock_unix_sec(), q->options.max_stored_bytes, id, err)) > 0) {
        r = remove_job(q, id, err);
        if (r < 0)
            break;
        job_queue_changed(q);
    }
    return r;
}

/* The lock, and a note in it of who holds it. */
static int take_lock(JobQueue *q, Err *err) {
    const char *path = q->options.state_dir;
    if (flock(q->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        char owner[24] = "";
        if (errno != EWOULDBLOCK)
            return err_set(err, -errno, "cannot lock '%s/lock': %s", path, strerror(errno));
        (void)io_pread_all(q->lock_fd, owner, sizeof(owner) - 1, 0); /* for the sentence only */
        return err_set(err, -EBUSY, "another preheatd (process %.*s) uses the state directory '%s'",
                (int)strspn(owner, "0123456789"), owner, path);
    }
    char self[24];
    /* As long as any: truncating what was there would be milliseconds of each start. */
    int n = snprintf(self, sizeof(self), "%-10d\n", (int)getpid());
    if (pwrite(q->lock_fd, self, (size_t)n, 0) < 0)
        return err_set(err, -errno, "cannot write '%s/lock': %s", path, strerror(errno));
    return 0;
}

static int take_directory(JobQueue *q, Err *err) {
    const char *path = q->options.state_dir;
    q->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (q->dir_fd < 0)
        return err_set(
                err, -errno, "cannot open the state directory '%s': %s", path, strerror(errno));
    q->lock_fd = openat(q->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (q->lock_fd < 0)
        return err_set(err, -errno, "cannot open '%s/lock': %s", path, strerror(errno));
    /* Two who come at once: the directory's lock is held from the try to the note, so that the one
     * who loses reads a whole note. */
    while (flock(q->dir_fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_set(err, -errno, "cannot lock '%s': %s", path, strerror(errno));
    int r = take_lock(q, err);
    (void)flock(q->dir_fd, LOCK_UN); /* of a lock that we hold */
    return r;
}

/* What was queued or running when the last daemon ended. */
typedef struct Found {
    JobRow *rows;
    size_t n;
} Found;

static int keep_row(void *context, JobRow *row) {
    Found *f = context;
    JobRow *rows = realloc(f->rows, (f->n + 1) * sizeof(JobRow));
    if (!rows) {
        job_info_done(&row->info);
        return -ENOMEM;
    }
    f->rows = rows;
    f->rows[f->n++] = *row;
    return 0;
}

static int resume_one(JobQueue *q, const JobRow *row, Err *err) {
    if (row->damaged) {
        JobOutcome o = job_queue_failure(q, "record_damaged", row->info.error_message);
        return job_table_finish(q->table, row->info.id, &o, err);
    }
    bool was_running = row->info.state == JOB_IN_PROGRESS;
    if (was_running &&
            (q->options.resume == JOB_RESUME_FAIL || row->attempts >= JOB_MAX_ATTEMPTS)) {
        JobOutcome o = job_queue_failure(q, "interrupted", "the daemon ended while the job ran");
        if (q->options.resume == JOB_RESUME_REQUEUE)
            (void)snprintf(o.error_message, sizeof(o.error_message),
                    "the daemon ended %jd times while the job ran", (intmax_t)row->attempts);
        return job_table_finish(q->table, row->info.id, &o, err);
    }
    Live *l = live_reserve(q, 1) ? calloc(1, sizeof(*l)) : NULL;
    if (!l)
        return err_set(err, -ENOMEM, "no memory for the job '%s'", row->info.id);
    int64_t age = MAX(clock_unix_sec() - row->info.created_at, (int64_t)0);
    live_add(q, l, row->info.id, row->seq, &row->info.request,
            (uint64_t)MIN(age, (int64_t)INT32_MAX) * USEC_PER_SEC);
    return was_running ? job_table_requeue(q->table, row->info.id, false, err) : 0;
}

static int resume_jobs(JobQueue *q, Err *err) {
    Found f = {0};
    int r = job_table_unfinished(q->table, keep_row, &f, err);
    for (size_t i = 0; i < f.n; i++) {
        if (r == 0)
            r = resume_one(q, &f.rows[i], err);
        job_info_done(&f.rows[i].info);
    }
    free(f.rows);
    return r;
}

static int learn_from(void *context, JobRow *row) {
    JobQueue *q = context;
    if (!row->damaged)
        estimate_learn(&q->estimate, &row->info.request, row->info.phase_usec);
    job_info_done(&row->info);
    return 0;
}

/* What cannot be looked up stays. */
static bool is_known(void *context, const char *id) {
    JobQueue *q = context;
    JobRow row;
    int r = job_table_get(q->table, id, &row, NULL);
    if (r == 0)
        job_info_done(&row.info);
    return r != -ENOENT;
}

/* Beside a table that was begun anew nothing is known, and what is there may be all that is left.
 */
static int tidy_up(JobQueue *q, Err *err) {
    return q->warning ? 0 : job_files_remove_strangers(q->dir_fd, is_known, q, err);
}

int job_queue_resume(JobQueue *q, Err *err) {
    assert(!q->table);
    queue_metrics_init(&q->metrics, q->options.metrics);
    int r = job_files_prepare(q->dir_fd, err);
    if (r == 0)
        r = job_table_open(q->options.state_dir, &q->table, &q->warning, err);
    q->options.state_dir = NULL; /* the caller's; used until here only */
    if (r == 0)
        r = tidy_up(q, err);
    if (r == 0)
        r = resume_jobs(q, err);
    if (r == 0)
        r = job_table_recent(q->table, LEARN_FROM, learn_from, q, err);
    if (r == 0)
        r = job_queue_drop_expired(q, err);
    if (r == 0)
        queue_metrics_set_load(&q->metrics, live_count_queued(q), false);
    return r;
}

int job_queue_open(const JobQueueOptions *options, JobQueue **ret, Err *err) {
    JobQueue *q = calloc(1, sizeof(*q));
    if (!q)
        return err_set(err, -ENOMEM, "no memory for the job queue");
    q->options = *options;
    if (q->options.ageing_usec == 0)
        q->options.ageing_usec = JOB_AGEING_USEC;
    q->dir_fd = q->lock_fd = -1;
    q->untold = true;
    (void)pthread_mutex_init(&q->lock, NULL); /* neither fails with default attributes */
    (void)pthread_cond_init(&q->wake, NULL);
    int r = take_directory(q, err);
    if (r < 0)
        q = job_queue_close(q);
    else
        *ret = q;
    return r;
}

const char *job_queue_warning(const JobQueue *q) {
    return q->warning;
}

int job_queue_start(JobQueue *q, Err *err) {
    assert(!q->started);
    int r = pthread_create(&q->worker, NULL, worker_main, q);
    if (r != 0)
        return err_set(err, -r, "cannot start the worker thread: %s", strerror(r));
    q->started = true;
    return 0;
}

void job_queue_wake(JobQueue *q) {
    job_queue_lock(q);
    q->untold = true;
    (void)pthread_cond_signal(&q->wake);
    job_queue_unlock(q);
}

JobQueue *job_queue_close(JobQueue *q) {
    if (!q)
        return NULL;
    if (q->started) {
        job_queue_interrupt(q);
        job_queue_lock(q);
        q->stopping = true;
        (void)pthread_cond_signal(&q->wake);
        job_queue_unlock(q);
        (void)pthread_join(q->worker, NULL); /* a joinable thread of ours */
    }
    if (q->table)
        job_queue_write_unwritten(q);
    for (size_t i = 0; i < q->n_live; i++)
        free(q->live[i]);
    free(q->live);
    (void)job_table_close(q->table);
    fd_closep(&q->lock_fd);
    fd_closep(&q->dir_fd);
    (void)pthread_cond_destroy(&q->wake);
    (void)pthread_mutex_destroy(&q->lock);
    free(q->warning);
    free(q);
    return NULL;
}

static int draw_id(char id[static JOB_ID_SIZE], Err *err) {
    uint8_t random[16];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_set(err, -EIO, "no random numbers for a job's id");
    Digest d;
    memcpy(d.byte, random, sizeof(d.byte));
    char hex[DIGEST_HEX_SIZE];
    (void)snprintf(id, JOB_ID_SIZE, "video_%s", digest_hex(&d, hex));
    return 0;
}

static int insert_one(JobQueue *q, const Request *r, const char *remixed_from, Live *l, Err *err) {
    _cleanup_free_ char *json = request_to_json(r);
    if (!json)
        return err_set(err, -ENOMEM, "no memory for the job");
    int k = draw_id(l->id, err);
    if (k == 0 && r->image)
        k = job_files_save_image(q->dir_fd, l->id, r->image, r->image_bytes, err);
    return k == 0 ? job_table_insert(
                            q->table, l->id, json, clock_unix_sec(), remixed_from, &l->seq, err)
                  : k;
}

static int insert_all(
        JobQueue *q, const Request *r, const char *remixed_from, Live **fresh, Err *err) {
    Request one = *r;
    one.n = 1;
    int k = job_table_begin(q->table, err);
    if (k < 0)
        return k;
    for (int64_t i = 0; k == 0 && i < r->n; i++) {
        one.seed = r->seed + (uint64_t)i;
        k = insert_one(q, &one, remixed_from, fresh[i], err);
    }
    k = job_table_end(q->table, k, err);
    for (int64_t i = 0; k < 0 && i < r->n; i++)
        if (job_id_valid(fresh[i]->id))
            (void)job_files_remove(q->dir_fd, fresh[i]->id, NULL); /* pictures of no job */
    return k;
}

static Live **live_array(JobQueue *q, size_t n, Err *err) {
    Live **fresh = calloc(n, sizeof(Live *));
    bool ok = fresh && live_reserve(q, n);
    for (size_t i = 0; ok && i < n; i++)
        ok = (fresh[i] = calloc(1, sizeof(Live))) != NULL;
    if (ok)
        return fresh;
    for (size_t i = 0; fresh && i < n; i++)
        free(fresh[i]);
    free(fresh);
    (void)err_set(err, -ENOMEM, "no memory for %zu jobs", n);
    return NULL;
}

static int submit(JobQueue *q, const Request *r, const char *remixed_from, char ids[][JOB_ID_SIZE],
        Err *err) {
    size_t n = (size_t)r->n, n_queued = live_count_queued(q);
    if (n_queued + n > (size_t)q->options.queue_limit)
        return err_set(err, -EBUSY,
                "the queue is full: %zu of %jd jobs wait, %zu more are asked for", n_queued,
                (intmax_t)q->options.queue_limit, n);
    size_t n_own = live_count_client(q, r->client);
    if (q->options.client_limit > 0 && r->client[0] && n_own + n > (size_t)q->options.client_limit)
        return err_set(err, -EUSERS,
                "%zu jobs of yours wait or run, %zu more are asked for, %jd are allowed to each "
                "client",
                n_own, n, (intmax_t)q->options.client_limit);
    job_queue_write_unwritten(q);
    Live **fresh = live_array(q, n, err);
    if (!fresh)
        return -ENOMEM;
    int k = insert_all(q, r, remixed_from, fresh, err);
    for (size_t i = 0; i < n; i++) {
        if (k < 0) {
            free(fresh[i]);
            continue;
        }
        job_id_copy(ids[i], fresh[i]->id);
        live_add(q, fresh[i], ids[i], fresh[i]->seq, r, 0);
    }
    free(fresh);
    return k;
}

int job_queue_submit(JobQueue *q, const Request *r, const char *remixed_from,
        char ids[][JOB_ID_SIZE], Err *err) {
    assert(r->n >= 1 && r->has_seed);
    job_queue_lock(q);
    int k = submit(q, r, remixed_from, ids, err);
    if (k == 0)
        job_queue_changed(q);
    job_queue_unlock(q);
    return k;
}

int job_queue_info(JobQueue *q, const char *id, JobInfo *ret, Err *err) {
    JobRow row;
    int r = job_table_get(q->table, id, &row, err);
    if (r < 0)
        return r;
    Live *l = live_find(q, id);
    r = l ? live_overlay(q, l, &row.info, err) : 0;
    if (r < 0)
        job_info_done(&row.info);
    else
        *ret = row.info;
    return r;
}

int job_queue_get(JobQueue *q, const char *id, JobInfo *ret, Err *err) {
    job_queue_lock(q);
    int r = job_queue_info(q, id, ret, err);
    job_queue_unlock(q);
    return r;
}

static int list(JobQueue *q, const JobListQuery *query, Found *f, Err *err) {
    int64_t after = 0;
    if (query->after) {
        JobRow row;
        int r = job_table_get(q->table, query->after, &row, err);
        if (r < 0)
            return r;
        after = row.seq;
        job_info_done(&row.info);
    }
    int r = job_table_page(q->table, query->limit + 1, query->ascending, after, keep_row, f, err);
    for (size_t i = 0; r == 0 && i < f->n; i++) {
        Live *l = live_find(q, f->rows[i].info.id);
        r = l ? live_overlay(q, l, &f->rows[i].info, err) : 0;
    }
    return r;
}

int job_queue_list(JobQueue *q, const JobListQuery *query, JobInfo **ret, size_t *ret_n,
        bool *ret_more, Err *err) {
    assert(query->limit >= 1);
    Found f = {0};
    job_queue_lock(q);
    int r = list(q, query, &f, err);
    job_queue_unlock(q);
    size_t n = MIN(f.n, (size_t)query->limit);
    JobInfo *infos = r == 0 ? calloc(n ? n : 1, sizeof(JobInfo)) : NULL;
    if (r == 0 && !infos)
        r = err_set(err, -ENOMEM, "no memory for a list of %zu jobs", n);
    for (size_t i = 0; i < f.n; i++)
        if (infos && i < n)
            infos[i] = f.rows[i].info;
        else
            job_info_done(&f.rows[i].info);
    free(f.rows);
    if (r < 0)
        return r;
    *ret = infos;
    *ret_n = n;
    *ret_more = f.n > n;
    return 0;
}

JobInfo *job_list_free(JobInfo *infos, size_t n) {
    for (size_t i = 0; infos && i < n; i++)
        job_info_done(&infos[i]);
    free(infos);
    return NULL;
}

int job_queue_request(JobQueue *q, const char *id, Request *ret, Err *err) {
    JobRow row;
    job_queue_lock(q);
    int r = job_table_get(q->table, id, &row, err);
    job_queue_unlock(q);
    if (r < 0)
        return r;
    if (row.damaged)
        r = err_set(err, -EBADMSG, "'%s': %s", id, row.info.error_message);
    Request *stored = &row.info.request;
    if (r == 0 && stored->image_bytes)
        r = job_files_load_image(
                q->dir_fd, id, stored->image_bytes, &row.image, &stored->image, err);
    if (r == 0) {
        *ret = *stored;
        *stored = (Request){0};
    }
    job_info_done(&row.info);
    return r;
}

static void cancel(JobQueue *q, Live *l) {
    l->cancelled = true;
    if (l->running) {
        atomic_store_explicit(&l->progress.cancelled, true, memory_order_relaxed);
        return;
    }
    JobOutcome o = job_queue_failure(q, "cancelled", "the job was cancelled");
    queue_metrics_count(&q->metrics, &o, 0);
    live_end(q, l, &o);
    job_queue_changed(q);
}

int job_queue_cancel(JobQueue *q, const char *id, Err *err) {
    JobRow row;
    job_queue_lock(q);
    int r = job_table_get(q->table, id, &row, err);
    Live *l = live_find(q, id);
    if (r == 0) {
        job_info_done(&row.info);
        if (l && !l->ended)
            cancel(q, l);
    }
    job_queue_unlock(q);
    return r;
}

static int delete_locked(JobQueue *q, const char *id, Err *err) {
    JobRow row;
    int r = job_table_get(q->table, id, &row, err);
    if (r < 0)
        return r;
    job_info_done(&row.info);
    Live *l = live_find(q, id);
    if (l && l->running) {
        cancel(q, l);
        return JOB_STOPPING;
    }
    r = remove_job(q, id, err);
    if (r < 0)
        return r;
    if (l)
        live_drop(q, l);
    job_queue_changed(q);
    return 0;
}

int job_queue_delete(JobQueue *q, const char *id, Err *err) {
    job_queue_lock(q);
    int r = delete_locked(q, id, err);
    job_queue_unlock(q);
    return r;
}

int job_queue_open_file(JobQueue *q, const char *id, JobFile which, int *ret_fd, Err *err) {
    JobInfo info;
    int r = job_queue_get(q, id, &info, err);
    if (r < 0)
        return r;
    if (info.state == JOB_FAILED)
        r = err_set(err, -ESTALE, "'%s' has no video, it failed: %s", id,
                info.error_message ? info.error_message : "no reason kept");
    else if (info.state != JOB_COMPLETED)
        r = err_set(
                err, -EAGAIN, "'%s' is %s, its video is not ready", id, job_state_name(info.state));
    else
        r = job_files_open(q->dir_fd, id, which, ret_fd, err);
    job_info_done(&info);
    return r;
}

int job_queue_expire(JobQueue *q, int64_t *ret_next, Err *err) {
    job_queue_lock(q);
    int r = job_queue_drop_expired(q, err);
    if (r == 0)
        r = job_table_next_expiry(q->table, ret_next, err);
    job_queue_unlock(q);
    return r;
}

void job_queue_load(JobQueue *q, JobQueueLoad *ret) {
    job_queue_lock(q);
    *ret = (JobQueueLoad){.n_queued = (int64_t)live_count_queued(q),
            .n_running = live_running(q) != NULL,
            .limit = q->options.queue_limit,
            .eta_seconds = live_eta(q, NULL)};
    job_queue_unlock(q);
}

void job_queue_estimate(JobQueue *q, Estimate *ret) {
    job_queue_lock(q);
    *ret = q->estimate;
    job_queue_unlock(q);
}

bool job_queue_idle(JobQueue *q) {
    job_queue_lock(q);
    bool idle = live_count_queued(q) == 0 && !live_running(q);
    job_queue_unlock(q);
    return idle;
}

void job_queue_drain(JobQueue *q) {
    job_queue_lock(q);
    q->draining = true;
    job_queue_unlock(q);
}

bool job_queue_running(JobQueue *q) {
    job_queue_lock(q);
    bool running = live_running(q) != NULL;
    job_queue_unlock(q);
    return running;
}

void job_queue_interrupt(JobQueue *q) {
    job_queue_lock(q);
    q->draining = true;
    for (size_t i = 0; i < q->n_live; i++) {
        Live *l = q->live[i];
        if (!l->running)
            continue;
        l->interrupted = true;
        atomic_store_explicit(&l->progress.cancelled, true, memory_order_relaxed);
    }
    job_queue_unlock(q);
}
