/* preheatd-settings - what requests are held against, as the configuration says it. */
#ifndef PREHEAT_PREHEATD_SETTINGS_H
#define PREHEAT_PREHEATD_SETTINGS_H

#include "config/config.h"
#include "job/degrade.h"
#include "request/request.h"

/* settings_defaults - over the model's own, which d holds; its text is borrowed from c. */
void settings_defaults(const Config *c, RequestDefaults *d);

/* settings_limits - size_multiple: the model's. */
RequestLimits settings_limits(const Config *c, int64_t size_multiple);

/* settings_degrade - what a request gets during a slow start. Returns 0; -EINVAL for a ladder that
 * is none. */
int settings_degrade(const Config *c, DegradePlan *ret, Err *err);

#endif
