/* status - one page for the operator: daemon, model and where its weights are, pages, jobs. */
#ifndef PREHEAT_CTL_STATUS_H
#define PREHEAT_CTL_STATUS_H

#include "ctl/client.h"
#include "ctl/options.h"

typedef struct StatusOptions {
    bool json, wake;
} StatusOptions;

extern const OptionTable status_table;

/* status_run - asks the daemon unless systemd says that it sleeps, which asking would end.
 *
 *   local    what main found on this machine: "units" (units_states()), "model", "segment",
 *            "huge_pages", "keeping" (units_keeping()), each as status_print() reads them; answers
 *            are added to it
 *   columns  0: not cut
 *
 * Returns 0, also when the daemon cannot be reached: that is a state like another; -ENOMEM. */
int status_run(Client *c, json_t *local, const StatusOptions *o, int columns, FILE *out, Err *err);

/* status_print - all: local, "daemon" ({"state", "reason"}), "health" (of /healthz) and "jobs" (of
 * /v1/videos); any may be missing. Members read:
 *   model      name, root, weight_bytes, n_files, problem
 *   segment    path, backing, files, n_chunks, n_ready, n_bad, filling, problem
 *   files      of each: path, backing, page_bytes, bytes
 *   keeping    warm_up, parked
 *   huge_pages total, free, surplus, overcommit, needed */
void status_print(const json_t *all, int columns, FILE *out);

#endif
