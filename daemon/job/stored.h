/* stored - results that are there already, found again by what was asked for. */
#ifndef PREHEAT_JOB_STORED_H
#define PREHEAT_JOB_STORED_H

#include "job/queue.h"

typedef enum StoredMatch {
    STORED_SAME,   /* all that shapes the frames; the seed only where the request has one */
    STORED_PROMPT, /* prompt and picture; made at full quality */
} StoredMatch;

/* stored_find - the newest completed job that matches, among the last 256. The caller frees with
 * job_info_done().
 *
 *   r  validated; model set
 *
 * Returns 0; -ENOENT; -ENOMEM; negative errno of the database. */
int stored_find(JobQueue *q, const Request *r, StoredMatch match, JobInfo *ret, Err *err);

#endif
