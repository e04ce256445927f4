/* job-table - the rows of jobs.db, in SQLite.
 *
 * One row a job, in the order of submission (seq). Write-ahead log and full synchronisation: what a
 * function has written when it returns is on disk. One caller at a time. */
#ifndef PREHEAT_JOB_JOB_TABLE_H
#define PREHEAT_JOB_JOB_TABLE_H

#include "base/digest.h"
#include "job/job.h"
#include "job/queue.h"

typedef struct JobTable JobTable;

/* job_table_open - opens or creates STATE/jobs.db.
 *
 * A damaged database is renamed and a new one made; *ret_warning then is a sentence that the caller
 * frees, else NULL. -EPROTONOSUPPORT for a database of a later version. */
int job_table_open(const char *state_dir, JobTable **ret, char **ret_warning, Err *err);
JobTable *job_table_close(JobTable *t);

/* Several inserts at once or none: begin, then end with what became of them; end returns r, or its
 * own failure. */
int job_table_begin(JobTable *t, Err *err);
int job_table_end(JobTable *t, int r, Err *err);

int job_table_insert(JobTable *t, const char *id, const char *request, int64_t created_at,
        const char *remixed_from, int64_t *ret_seq, Err *err);

/* What is written when a job stops, whichever way. */
typedef struct JobOutcome {
    JobState state; /* JOB_COMPLETED or JOB_FAILED */
    int64_t completed_at, expires_at;
    const char *error_code; /* static; NULL: none */
    char error_message[sizeof(((Err *)0)->text)];
    JobReport report;
    uint64_t phase_usec[N_PHASES];
    uint64_t video_bytes, thumbnail_bytes;
} JobOutcome;

int job_table_start(JobTable *t, const char *id, int64_t started_at, Err *err);
int job_table_finish(JobTable *t, const char *id, const JobOutcome *outcome, Err *err);

/* job_table_requeue - queued again; forgiven: the attempt does not count. */
int job_table_requeue(JobTable *t, const char *id, bool forgiven, Err *err);
int job_table_remove(JobTable *t, const char *id, Err *err);

/* A row as it stands. The request of a damaged one cannot be read: state is then JOB_FAILED with
 * the code "record_damaged". */
typedef struct JobRow {
    JobInfo info;
    int64_t seq, attempts;
    Digest image; /* of the request's picture, when info.request.image_bytes > 0 */
    bool damaged;
} JobRow;

/* -ENOENT. The caller frees row->info. */
int job_table_get(JobTable *t, const char *id, JobRow *ret, Err *err);

/* Called with each row, which it takes; a negative value ends the walk and is passed up. */
typedef int JobRowFunc(void *context, JobRow *row);

/* job_table_page - up to limit rows, newest first or oldest first, beyond after_seq (0: all). */
int job_table_page(JobTable *t, int64_t limit, bool ascending, int64_t after_seq, JobRowFunc *func,
        void *context, Err *err);

/* job_table_unfinished - the rows that are queued or in progress, oldest first. func must not
 * change the table. */
int job_table_unfinished(JobTable *t, JobRowFunc *func, void *context, Err *err);

/* job_table_recent - the last n completed rows, newest first. */
int job_table_recent(JobTable *t, int64_t n, JobRowFunc *func, void *context, Err *err);

/* job_table_next_expired - the finished job with the earliest expires_at at or before `now`, or,
 * when the files of all completed jobs have more than max_bytes (0: no limit), the oldest completed
 * but the last. Returns 1 with its id; 0 when there is none; negative errno. */
int job_table_next_expired(
        JobTable *t, int64_t now, uint64_t max_bytes, char id[static JOB_ID_SIZE], Err *err);

/* job_table_next_expiry - the earliest expires_at of all, 0 when there is none. */
int job_table_next_expiry(JobTable *t, int64_t *ret, Err *err);

#endif
