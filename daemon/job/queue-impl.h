/* queue-impl - what the files of the job queue share: its fields, and the list of live jobs.
 *
 * Everything here is called with the lock held, except what says otherwise. */
#ifndef PREHEAT_JOB_QUEUE_IMPL_H
#define PREHEAT_JOB_QUEUE_IMPL_H

#include "job/estimate.h"
#include "job/job-table.h"
#include "job/queue-metrics.h"
#include "job/queue.h"

#include <pthread.h>

/* A job that is queued or running, or that has ended while its outcome could not be written. */
typedef struct Live {
    char id[JOB_ID_SIZE];
    int64_t seq;
    int64_t rank_usec; /* monotonic time of submission, for batch jobs plus the ageing */
    Request shape;     /* numbers only, for estimates: the strings are NULL */
    Progress progress;
    uint64_t began_usec;
    int percent;              /* the highest that was shown */
    bool running;             /* in the worker's hands */
    bool cancelled;           /* a client does not want it any more */
    bool interrupted;         /* the daemon is going away */
    int n_short;              /* times that it ran out of memory and was put back */
    uint64_t not_before_usec; /* when it may run again */
    bool ended;               /* outcome is to be written yet */
    JobOutcome outcome;       /* of a job that was put back for want of memory, the reason alone */
} Live;

struct JobQueue {
    JobQueueOptions options; /* state_dir and the like are our own copies or unused */
    int dir_fd, lock_fd;
    char *warning;
    QueueMetrics metrics;
    pthread_t worker;
    bool started;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;  /* the worker: a job came, or stop */
    JobTable *table;
    Live **live;
    size_t n_live, live_room;
    Estimate estimate;
    bool draining, stopping;
    bool untold; /* that there is nothing to do; the worker's, and job_queue_wake()'s */
};

/* Without the lock. */
void job_queue_lock(JobQueue *q);
void job_queue_unlock(JobQueue *q);

/* job_queue_changed - after every change of state. */
void job_queue_changed(JobQueue *q);

/* job_queue_failure - an outcome that is a failure; the sentence may be cut. */
JobOutcome job_queue_failure(const JobQueue *q, const char *code, const char *message);
int64_t job_queue_expiry(const JobQueue *q, int64_t completed_at);

/* job_queue_drop_expired - writes what could not be written before, then drops what is over time
 * or room. */
int job_queue_drop_expired(JobQueue *q, Err *err);
void job_queue_write_unwritten(JobQueue *q);

/* job_queue_info - a job as clients see it; the caller frees. */
int job_queue_info(JobQueue *q, const char *id, JobInfo *ret, Err *err);

Live *live_find(JobQueue *q, const char *id);
const Live *live_running(const JobQueue *q);
size_t live_count_queued(const JobQueue *q);
size_t live_count_client(const JobQueue *q, const char *client); /* queued and running */

/* live_next - the queued job whose turn it is, NULL when there is none; those that wait for memory
 * let others pass. live_due - when the first of these may run again, USEC_INFINITY: there are none.
 */
Live *live_next(JobQueue *q);
uint64_t live_due(const JobQueue *q);

/* live_reserve - room for n more; live_add cannot fail afterwards. age_usec: how long ago the job
 * was submitted. */
bool live_reserve(JobQueue *q, size_t n);
void live_add(
        JobQueue *q, Live *l, const char *id, int64_t seq, const Request *r, uint64_t age_usec);
void live_drop(JobQueue *q, Live *l);

/* live_end - writes the outcome and lets go of the job. A disk that is full must not lose it: the
 * outcome then stays in memory, is shown, and is written with the next chance. */
void live_end(JobQueue *q, Live *l, const JobOutcome *outcome);

/* live_eta - seconds until all jobs are done, or those up to and with `last`; negative: unknown. */
double live_eta(const JobQueue *q, const Live *last);

/* live_overlay - over what the row says: the state of a job that is not finished on disk. */
int live_overlay(JobQueue *q, Live *l, JobInfo *info, Err *err);

/* worker_main - the worker thread; context is the queue. Without the lock. */
void *worker_main(void *context);

#endif
