/* queue - the jobs of one state directory: kept in SQLite, run one at a time by one worker thread.
 *
 * An accepted job is on disk before job_queue_submit() returns. Every function may be called from
 * any thread (one mutex guards list and database), except open, start and close: their caller owns
 * the queue. Files: STATE/lock, STATE/jobs.db, STATE/jobs/ID/image, STATE/videos/ID.{mp4,webp}. */
#ifndef PREHEAT_JOB_QUEUE_H
#define PREHEAT_JOB_QUEUE_H

#include "job/estimate.h"
#include "job/job.h"
#include "metrics/metrics.h"

typedef struct JobQueue JobQueue;

/* What becomes of a job that was running when the daemon went away. */
typedef enum JobResume { JOB_RESUME_REQUEUE, JOB_RESUME_FAIL } JobResume;

/* A job that was started this often and never ended is failed as interrupted instead of queued
 * again: it may be what brings the daemon down. */
#define JOB_MAX_ATTEMPTS 3

typedef struct JobQueueOptions {
    const char *state_dir; /* exists, is writable */
    int64_t queue_limit;   /* jobs that wait */
    int64_t client_limit;  /* jobs of one client that wait or run; 0: as many as there is room */
    int64_t retention_sec; /* how long finished jobs and their files stay; 0: for ever */
    uint64_t max_stored_bytes; /* of all files in videos/; the oldest go first; 0: no limit */
    uint64_t ageing_usec;      /* a batch job waits no longer than this behind interactive ones that
                                  came after it; 0: JOB_AGEING_USEC */
    int memory_retries; /* of a job that ran out of memory, which another program may give back */
    uint64_t memory_delay_usec; /* before the first of these; doubled for each further one */
    JobResume resume;
    Metrics *metrics; /* borrowed, NULL: counts nothing */
    JobRun *run;
    /* Any of these may be NULL. begin and end run on the worker thread, before its first and after
     * its last job; begin may take its time, jobs wait in the queue. finished is called on the
     * worker thread after a job has completed, failed or been put back; for want of memory only
     * the first time, with the reason in error_message. changed is called on any
     * thread after every change of state, with the lock held: it only wakes somebody. */
    void (*begin)(void *context);
    void (*end)(void *context);
    void (*idle)(void *context); /* on the worker thread too, each time that no job is due */
    void (*finished)(void *context, const JobInfo *info);
    void (*changed)(void *context);
    void *context;
} JobQueueOptions;

#define JOB_AGEING_USEC (UINT64_C(120) * 1000000)

/* job_queue_open - takes the state directory; job_queue_resume() must follow, and nothing but
 * job_queue_close() may be called before it has succeeded.
 *
 * Returns 0; -EBUSY when another daemon has the directory; negative errno. */
int job_queue_open(const JobQueueOptions *options, JobQueue **ret, Err *err);

/* job_queue_resume - reads what is kept and puts interrupted jobs where options->resume says.
 *
 * A damaged database is renamed to jobs.db.damaged-TIME and a new one made; job_queue_warning()
 * then says so. Returns 0; negative errno. */
int job_queue_resume(JobQueue *q, Err *err);

/* job_queue_warning - what had to be repaired, one sentence; NULL: nothing. Valid until close. */
const char *job_queue_warning(const JobQueue *q);

/* job_queue_start - starts the worker; until then jobs are accepted and wait. */
int job_queue_start(JobQueue *q, Err *err);

/* job_queue_wake - lets the worker look again: idle is called unless a job runs. Any thread. */
void job_queue_wake(JobQueue *q);

/* job_queue_close - interrupts the running job, waits for it, keeps the queued ones for the next
 * start; returns NULL, takes NULL. */
JobQueue *job_queue_close(JobQueue *q);

/* job_queue_submit - r->n jobs with the seeds r->seed + i, all or none.
 *
 *   r             validated, with seed; copied
 *   remixed_from  id of the job that it varies, or NULL
 *   ids           [r->n]
 *
 * Returns 0; -EBUSY when the queue is full; -EUSERS when r->client has its share; -ENOSPC, -EIO...
 * from the disk, nothing is queued. */
int job_queue_submit(
        JobQueue *q, const Request *r, const char *remixed_from, char ids[][JOB_ID_SIZE], Err *err);

/* job_queue_get - one job now; the caller frees with job_info_done(). -ENOENT. */
int job_queue_get(JobQueue *q, const char *id, JobInfo *ret, Err *err);

typedef struct JobListQuery {
    int64_t limit;     /* at least 1 */
    bool ascending;    /* oldest first */
    const char *after; /* id of the last job of the page before, or NULL */
} JobListQuery;

/* job_queue_list - a page of jobs by time of creation. A row that cannot be read is listed as
 * failed with the code "record_damaged". The caller frees with job_list_free().
 *
 * Returns 0; -ENOENT when `after` is no job. */
int job_queue_list(JobQueue *q, const JobListQuery *query, JobInfo **ret, size_t *ret_n,
        bool *ret_more, Err *err);
JobInfo *job_list_free(JobInfo *list, size_t n);

/* job_queue_request - the request as it was stored, image included; the caller frees with
 * request_done(). -ENOENT; -EBADMSG. */
int job_queue_request(JobQueue *q, const char *id, Request *ret, Err *err);

/* job_queue_cancel - a queued job fails with the code "cancelled", a running one is told to stop.
 * A finished job stays as it is. Returns 0; -ENOENT. */
int job_queue_cancel(JobQueue *q, const char *id, Err *err);

#define JOB_STOPPING 1

/* job_queue_delete - the job, its files and its row. A running job is told to stop and stays until
 * the worker has let go of it: JOB_STOPPING, call again after the next change.
 *
 * Returns 0 when nothing of it is left; JOB_STOPPING; -ENOENT; negative errno of the removal. */
int job_queue_delete(JobQueue *q, const char *id, Err *err);

typedef enum JobFile { JOB_FILE_VIDEO, JOB_FILE_THUMBNAIL } JobFile;

/* job_queue_open_file - a finished job's file for reading; it stays readable when the job is
 * deleted meanwhile. -ENOENT: no such job or the file is gone; -EAGAIN: not finished yet;
 * -ESTALE: the job failed, there is no file. */
int job_queue_open_file(JobQueue *q, const char *id, JobFile which, int *ret_fd, Err *err);

/* job_queue_expire - drops what is past its time or over max_stored_bytes; the worker does so after
 * each job and when *ret_next (unix seconds, 0: never) has come. */
int job_queue_expire(JobQueue *q, int64_t *ret_next, Err *err);

typedef struct JobQueueLoad {
    int64_t n_queued, n_running, limit;
    double eta_seconds; /* until all of them are done; negative: nothing to tell it from */
} JobQueueLoad;

void job_queue_load(JobQueue *q, JobQueueLoad *ret);

/* job_queue_estimate - what is known of the times of jobs. */
void job_queue_estimate(JobQueue *q, Estimate *ret);

/* job_queue_idle - no job is queued or running. */
bool job_queue_idle(JobQueue *q);

/* job_queue_drain - starts no further job; new ones are still accepted, for the next start. */
void job_queue_drain(JobQueue *q);

/* job_queue_running - a job is in the worker's hands. */
bool job_queue_running(JobQueue *q);

/* job_queue_interrupt - tells the running job to stop, as a lost one: it is queued again or failed
 * as options->resume says, also when it would have been its last attempt. */
void job_queue_interrupt(JobQueue *q);

#endif
