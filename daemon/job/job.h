/* job - one video that a client asked for, from the queue to its files.
 *
 * A Job lives while the worker runs it. What clients see of any job, running or long done, is a
 * JobInfo: a copy that its holder owns. */
#ifndef PREHEAT_JOB_JOB_H
#define PREHEAT_JOB_JOB_H

#include "base/err.h"
#include "request/progress.h"
#include "request/request.h"

typedef enum JobState {
    JOB_QUEUED,
    JOB_IN_PROGRESS,
    JOB_COMPLETED,
    JOB_FAILED, /* cancelled and interrupted ones too, with that code */
    N_JOB_STATES,
} JobState;

/* How much of the way to the first step was still to go when the job began. */
typedef enum JobStart {
    JOB_START_UNKNOWN,
    JOB_START_COLD_DISK,
    JOB_START_COLD_HOST,
    JOB_START_PARKED,
    JOB_START_HOT,
    N_JOB_STARTS,
} JobStart;

const char *job_state_name(JobState s); /* as the API calls it, static */
const char *job_start_name(JobStart s); /* NULL for JOB_START_UNKNOWN */
int job_state_parse(const char *name, JobState *ret);
int job_start_parse(const char *name, JobStart *ret);

/* "video_" and 32 hexadecimal digits. Whether an id looks so is checked before it meets a path. */
#define JOB_ID_SIZE 39
bool job_id_valid(const char *id);
void job_id_copy(char to[static JOB_ID_SIZE], const char *id); /* a valid one, asserted */

/* Filled in by the run. */
typedef struct JobReport {
    JobStart start;
    uint64_t peak_device_bytes;
    char degraded[120]; /* what was given instead of the full result; empty: nothing */
} JobReport;

typedef struct Job {
    const char *id;
    const Request *request; /* n is 1, the seed is drawn, the image is loaded */
    Progress *progress;
    int video_fd, thumbnail_fd; /* empty files, read and write; they get their names on success */
    JobReport report;
} Job;

/* JobRun - makes the video; called on the worker thread, one at a time.
 *
 * Returns 0 when both files are complete; -ECANCELED once progress->cancelled is seen; any other
 * negative errno with a sentence for the client: job_error_code() turns it into the code. */
typedef int JobRun(void *context, Job *job, Err *err);

/* job_error_code - the API's code for a failed run, static text. */
const char *job_error_code(int code);

typedef struct JobInfo {
    char id[JOB_ID_SIZE];
    JobState state;
    Request request;                                          /* without the image's bytes */
    int64_t created_at, started_at, completed_at, expires_at; /* unix seconds; 0: not yet */
    char remixed_from[JOB_ID_SIZE];                           /* empty: from nothing */
    char error_code[32];                                      /* empty: no error */
    char *error_message;
    JobReport report;
    uint64_t phase_usec[N_PHASES];
    uint64_t video_bytes, thumbnail_bytes;
    int percent; /* 0..100, never goes back */
    Phase phase;
    int step;               /* denoising steps that are done, 0 in all other phases */
    int64_t queue_position; /* 1 is next; 0: not queued */
    double eta_seconds;     /* until it is done; negative: nothing to tell it from */
} JobInfo;

void job_info_done(JobInfo *info);

#endif
