/* preheatd-parking - weights that stay on the device when the daemon leaves: taken up at the start,
 * handed over after it.
 *
 * Used by one step of the start after the other, but for parking_forget(): any thread. Nothing here
 * keeps the daemon from serving: parked weights that cannot be used are given back and loaded anew,
 * those that cannot be parked are not. */
#ifndef PREHEAT_PREHEATD_PARKING_H
#define PREHEAT_PREHEATD_PARKING_H

#include "config/config.h"
#include "pipeline/pipeline.h"
#include "service/listen.h"
#include "store/manifest.h"

typedef struct Parking Parking;

/* parking_new - both must outlive it; closes listen's parked descriptors in time. */
int parking_new(const Config *config, Listen *listen, Parking **ret, Err *err);

/* parking_free - before the backend: weights that were not used are freed, and stay parked. */
Parking *parking_free(Parking *p);

/* parking_take - imports what was parked for this model, backend and build; gives back what was
 * parked for another one. */
void parking_take(Parking *p, Backend *b, const Manifest *m);

/* parking_drop - frees what was taken and not adopted; it stays parked. */
void parking_drop(Parking *p);

/* parking_bytes - device memory of what was taken. */
uint64_t parking_bytes(const Parking *p);

/* parking_fit - the taken pieces as pipeline_load() wants them; NULL, and all given back, where
 * they are not those of this pipeline. */
Memory **parking_fit(Parking *p, const Pipeline *pipeline);

/* parking_keep - after the load: parks the weights, or no longer does, as configured. */
int parking_keep(Parking *p, Backend *b, const Pipeline *pipeline, Err *err);

/* parking_forget - nothing is parked from now on: the device's memory cannot be trusted. */
void parking_forget(Parking *p);

#endif
