/* loop - the main thread's event loop: descriptors, timers, signals and wake-ups call functions.
 *
 * A thin layer over sd-event. One thread, but for loop_wake(). Functions run one at a time, in no
 * promised order. Sources are freed before their loop. */
#ifndef PREHEAT_SERVICE_LOOP_H
#define PREHEAT_SERVICE_LOOP_H

#include "base/err.h"

#include <stdint.h>
#include <sys/epoll.h> /* EPOLLIN and the other events */

typedef struct Loop Loop;
typedef struct LoopSource LoopSource;

/* events: what epoll reported for a descriptor, the signal's number for a signal, else 0. */
typedef void LoopFunc(void *context, uint32_t events);

int loop_new(Loop **ret, Err *err);
Loop *loop_free(Loop *l);

/* loop_run - until loop_exit(); returns its code (>= 0), or a negative errno of epoll. */
int loop_run(Loop *l, Err *err);
void loop_exit(Loop *l, int code);

/* loop_add_fd - calls func while fd has one of the events (level-triggered); fd stays the
 * caller's and must stay open as long as the source. */
int loop_add_fd(Loop *l, int fd, uint32_t events, LoopFunc *func, void *context, LoopSource **ret,
        Err *err);

/* loop_add_timer - unarmed at first. */
int loop_add_timer(Loop *l, LoopFunc *func, void *context, LoopSource **ret, Err *err);

/* loop_timer_set - fires once, this long from now; USEC_INFINITY disarms. */
void loop_timer_set(LoopSource *timer, uint64_t usec);

/* loop_hold_signals - SIGTERM, SIGINT and SIGHUP wait until a loop takes them, in threads begun
 * after this, too: for a main thread that has things to do before it has a loop. */
void loop_hold_signals(void);

/* loop_add_signal - blocks the signal in the calling thread and takes it from here on. Called
 * before other threads are started, so that they inherit the mask. */
int loop_add_signal(Loop *l, int signo, LoopFunc *func, void *context, LoopSource **ret, Err *err);

/* loop_add_wake, loop_wake - func runs in the loop's thread after loop_wake() was called by any
 * thread; several calls may become one. */
int loop_add_wake(Loop *l, LoopFunc *func, void *context, LoopSource **ret, Err *err);
void loop_wake(LoopSource *wake);

/* loop_source_free - also from within its own function. */
LoopSource *loop_source_free(LoopSource *s);

#endif
