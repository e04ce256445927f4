/* units - what systemd says of preheat's units, asked without waking any of them. */
#ifndef PREHEAT_CTL_UNITS_H
#define PREHEAT_CTL_UNITS_H

#include <jansson.h>
#include <stdbool.h>

/* units_states - {"preheatd.service": "inactive", ...} for the units that are installed; an empty
 * object where there is no systemd to ask; NULL when out of memory. */
json_t *units_states(void);

/* units_depot - who holds parked weights while preheatd is away: "systemd" or "preheat-keeper";
 * NULL where nobody does, or systemd is not there to ask. */
const char *units_depot(void);

/* units_keeping - {"warm_up": what preheat-warmup.service says of itself, "parked": weights are on
 * the card though no daemon runs}; empty where there is no systemd to ask; NULL when out of memory.
 */
json_t *units_keeping(void);

/* units_sleep - systemd listens and the daemon is not there: the next connection starts it. */
bool units_sleep(const json_t *states);

#endif
