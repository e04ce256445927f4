/* watchdog - feeds WatchdogSec= from the event loop as long as a check says that work goes on. */
#ifndef PREHEAT_SERVICE_WATCHDOG_H
#define PREHEAT_SERVICE_WATCHDOG_H

#include "service/loop.h"

#include <stdbool.h>

typedef struct Watchdog Watchdog;

/* Called twice a period in the loop's thread; false withholds the pulse. */
typedef bool WatchdogCheck(void *context);

/* watchdog_new - *ret is NULL, which is no failure, where the unit has no WatchdogSec=.
 *
 *   check  may be NULL: that the loop turns is enough */
int watchdog_new(Loop *l, WatchdogCheck *check, void *context, Watchdog **ret, Err *err);
Watchdog *watchdog_free(Watchdog *w);

#endif
