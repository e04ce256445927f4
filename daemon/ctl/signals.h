/* signals - Ctrl-C as something to wait for instead of an end in the middle of things.
 *
 * SIGINT and SIGTERM are blocked while a Signals is open; one at a time, main thread. */
#ifndef PREHEAT_CTL_SIGNALS_H
#define PREHEAT_CTL_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Signals {
    sigset_t before, waited;
    bool came;
} Signals;

void signals_open(Signals *s);
void signals_close(Signals *s);

/* signals_wait - up to this long; true when one came, now or earlier. */
bool signals_wait(Signals *s, uint64_t usec);

/* signals_came - the same without waiting; context is the Signals. */
bool signals_came(void *context);

#endif
