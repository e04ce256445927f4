/* preheatd-reserve - device memory for the largest request that is admitted, held from the
 * start on. */
#ifndef PREHEAT_PREHEATD_RESERVE_H
#define PREHEAT_PREHEATD_RESERVE_H

#include "preheatd-startup.h"

/* reserve_memory - for the largest request within the configuration's limits, with a picture; where
 * that does not fit, for one of the model's own size. What could not be reserved is one line of the
 * journal. The worker's, between jobs. */
void reserve_memory(const Config *config, const StartupState *state, Pipeline *pipeline);

#endif
