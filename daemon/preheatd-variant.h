/* preheatd-variant - settings of the start tried against each other: which file this start reads,
 * and how the starts with each went.
 *
 * Each start draws its file at random, so that neither the time of day nor a process that dies
 * early favours one. What is kept is a line a start in STATE/start-runs. */
#ifndef PREHEAT_PREHEATD_VARIANT_H
#define PREHEAT_PREHEATD_VARIANT_H

#include "config/config.h"
#include "preheatd-startup.h"

#include <jansson.h>

enum { VARIANT_MAX = 8, VARIANT_NAME_SIZE = 64, VARIANT_MAX_RUNS = 400 };

typedef struct Variant {
    char *path;                   /* NULL: there are no variants */
    char name[VARIANT_NAME_SIZE]; /* of the file, without .conf; empty */
    json_t *runs; /* how earlier starts went, an object for each variant and kind of start */
} Variant;

/* variant_load - the configuration of this start, with the variant that it draws from [daemon]
 * start_variants. Returns as config_load(); -EINVAL for a list that is none. */
int variant_load(const char *config_path, Variant *ret, Config **ret_config, Err *err);
void variant_done(Variant *v);

/* variant_keep - adds this start, once it has ended well or been refused; the oldest go. Nothing
 * fails for it. */
void variant_keep(
        const Variant *v, const char *state_dir, const StartupState *state, double seconds);

#endif
