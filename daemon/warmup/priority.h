/* priority - how much of the disk this process takes from others. */
#ifndef PREHEAT_WARMUP_PRIORITY_H
#define PREHEAT_WARMUP_PRIORITY_H

/* priority_idle_io - this thread, and those it starts, read only when nobody else wants the disk,
 * as far as the disk's scheduler knows classes. Returns 0 or negative errno. */
int priority_idle_io(void);

#endif
