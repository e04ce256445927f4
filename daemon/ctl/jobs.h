/* jobs - the commands about jobs that exist: list, cancel, get. */
#ifndef PREHEAT_CTL_JOBS_H
#define PREHEAT_CTL_JOBS_H

#include "ctl/client.h"
#include "ctl/options.h"

typedef struct JobsListOptions {
    const char *limit;
    bool json;
} JobsListOptions;

typedef struct JobsGetOptions {
    const char *output;
} JobsGetOptions;

extern const OptionTable jobs_list_table, jobs_cancel_table, jobs_get_table;

/* jobs_list - newest first, one line a job, at most columns wide; columns 0: not cut. */
int jobs_list(Client *c, const JobsListOptions *o, int columns, FILE *out, Err *err);

/* jobs_print - the lines of a list object, as jobs_list() has got it. */
int jobs_print(const json_t *list, int columns, FILE *out, Err *err);

/* jobs_cancel - cancels a queued or running job, removes a finished one with its video. */
int jobs_cancel(Client *c, const char *id, FILE *out, Err *err);

int jobs_get(Client *c, const char *id, const JobsGetOptions *o, FILE *out, Err *err);

#endif
