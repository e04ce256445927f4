/* preheatctl-model - the commands about models on this machine: they need the store and the
 * architecture, which the room ctl may not see. */
#ifndef PREHEAT_PREHEATCTL_MODEL_H
#define PREHEAT_PREHEATCTL_MODEL_H

#include "base/err.h"
#include "config/config.h"
#include "ctl/options.h"
#include "ctl/terminal.h"

#include <jansson.h>

typedef struct ModelAddOptions {
    const char *name, *chunk_size, *models_dir;
    bool force;
} ModelAddOptions;

typedef struct ModelListOptions {
    const char *models_dir;
    bool json;
} ModelListOptions;

typedef struct ModelVerifyOptions {
    const char *models_dir, *sha256;
} ModelVerifyOptions;

extern const OptionTable model_add_table, model_list_table, model_verify_table, hugepages_table;

int model_add(const Config *config, const char *dir, const ModelAddOptions *o, Terminal *t,
        FILE *out, Err *err);
int model_list(const Config *config, const ModelListOptions *o, FILE *out, Err *err);

/* model_verify - name is a model's, or a manifest's path. -EBADMSG: the files are damaged. */
int model_verify(const Config *config, const char *name, const ModelVerifyOptions *o, Terminal *t,
        FILE *out, Err *err);

/* model_hugepages - name: NULL for the configured model. */
int model_hugepages(const Config *config, const char *name, FILE *out, Err *err);

/* model_status - "units", "model", "segment" and "huge_pages" for status_run(); what cannot be
 * learnt is told there as a problem. NULL when out of memory. */
json_t *model_status(const Config *config);

/* model_check_readable - that the daemon's user may read every file of the configured model; for
 * root, and 0 where another asks or the files are not here. A sentence says which it may not. */
int model_check_readable(const Config *config, Err *err);

/* model_pages_held - huge pages that the segment's file has; 0 where there is none. */
uint64_t model_pages_held(const Config *config);

/* model_largest_file - the path of the configured model's largest file; NULL when it cannot be
 * opened or out of memory. The caller frees. */
char *model_largest_file(const Config *config);

#endif
