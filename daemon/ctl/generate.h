/* generate - from a prompt to a file: submits, watches, downloads, and cancels on Ctrl-C. */
#ifndef PREHEAT_CTL_GENERATE_H
#define PREHEAT_CTL_GENERATE_H

#include "ctl/client.h"
#include "ctl/options.h"
#include "ctl/signals.h"
#include "ctl/terminal.h"

/* As given on the command line; NULL where it was not: the server decides then. */
typedef struct GenerateOptions {
    const char *output, *image, *seed, *steps, *size, *frames, *fps, *guidance, *shift, *negative,
            *scheduler, *priority, *degrade, *model;
    bool no_wait, json;
} GenerateOptions;

extern const OptionTable generate_table;

/* generate_run - the video's name or JSON goes to `out`, progress to the terminal.
 *
 *   s  open; asked between polls
 *
 * Returns 0; the client's codes; CTL_JOB_FAILED; CTL_INTERRUPTED after the job was cancelled;
 * negative errno of writing. */
int generate_run(Client *c, const char *prompt, const GenerateOptions *o, Signals *s, Terminal *t,
        FILE *out, Err *err);

/* generate_wait - watches a job until it has ended well; *ret is its last state. */
int generate_wait(Client *c, const char *id, Signals *s, Terminal *t, json_t **ret, Err *err);

/* generate_fetch - a finished job's video to a path, "-" for standard output. */
int generate_fetch(Client *c, const char *id, const char *path, Err *err);

#endif
