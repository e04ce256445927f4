/* clock - time in microseconds, the one time unit inside preheat. */
#ifndef PREHEAT_BASE_CLOCK_H
#define PREHEAT_BASE_CLOCK_H

#include <stdint.h>

#define USEC_PER_MSEC ((uint64_t)1000)
#define USEC_PER_SEC ((uint64_t)1000000)
#define USEC_INFINITY UINT64_MAX

/* clock_usec - monotonic, since an unspecified start; never goes back, not even over a set clock.
 */
uint64_t clock_usec(void);

/* clock_unix_sec - wall clock, seconds since 1970; for timestamps shown to people and clients only.
 */
int64_t clock_unix_sec(void);

/* clock_deadline - now + timeout, saturating; USEC_INFINITY stays that. */
uint64_t clock_deadline(uint64_t timeout_usec);

/* clock_left - microseconds until the deadline, 0 once it has passed. */
uint64_t clock_left(uint64_t deadline_usec);

#endif
