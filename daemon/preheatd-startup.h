/* preheatd-startup - the model as the daemon's main sees it: opened and loaded by a start graph,
 * then handed to the worker. */
#ifndef PREHEAT_PREHEATD_STARTUP_H
#define PREHEAT_PREHEATD_STARTUP_H

#include "config/config.h"
#include "job/job.h"
#include "pipeline/pipeline.h"
#include "service/listen.h"
#include "startgraph/graph.h"

typedef struct Startup Startup;

typedef enum StartupStage { STARTUP_RUNNING, STARTUP_READY, STARTUP_REFUSED } StartupStage;

typedef struct StartupState {
    StartupStage stage;
    const char *phase; /* static: "starting", "loading", "serving", "refused" */
    int percent;       /* of the load */
    char reason[500];  /* why it is refused */
    bool abandoned;    /* because the weights' writer is gone: another start may find others */
    JobStart start;    /* where the weights came from */
    char device[96];
    const char *residency; /* static: which weights stay on the device; NULL: not known yet */
    bool has_limits;       /* the two below are known */
    RequestDefaults defaults;
    int64_t size_multiple;
} StartupState;

/* startup_begin - begins to open and load the configured model on threads of its own.
 *
 *   config      must outlive the model
 *   listen      what systemd handed over: the segment, which stays the caller's, and parked
 *               weights, which are closed once used; must outlive the model
 *   changed     called on any thread when the state may have changed
 *
 * Returns 0; negative errno when not even the threads could be started. */
int startup_begin(const Config *config, Listen *listen, void (*changed)(void *context),
        void *context, Startup **ret, Err *err);

/* startup_free - waits for steps that still run; the pipeline must not be in use. */
Startup *startup_free(Startup *s);

/* startup_cancel - nothing more is begun or waited for, with which the stage stays what it is;
 * NULL: nothing. Runs that wait for weights fail. Any thread. */
void startup_cancel(Startup *s);

/* startup_settle - after startup_cancel(): whether startup_free() will return. Waits for up to the
 * timeout for a step that was given up, as a driver that does not answer. NULL: 0. Returns 0;
 * -ETIMEDOUT. */
int startup_settle(Startup *s, uint64_t timeout_usec);

/* startup_state - a copy; any thread. */
void startup_state(Startup *s, StartupState *ret);

/* startup_wait - until there is a pipeline or none will come. Returns 0 with the pipeline, which is
 * the worker's from then on although weights may still be on their way to it; else the reason,
 * -ENOLINK when the state is abandoned. */
int startup_wait(Startup *s, Pipeline **ret, Err *err);

/* startup_admit - whether a request fits model and device; once state has limits. Any thread.
 * Returns as pipeline_admit(). */
int startup_admit(Startup *s, const Request *r, Err *err);

/* startup_device_lost - the device failed: weights on it are not to be used again. Any thread. */
void startup_device_lost(Startup *s);

/* startup_timeline - the steps of the start so far; returns how many (GRAPH_MAX_STEPS at most). Any
 * thread. */
size_t startup_timeline(Startup *s, StepReport *ret);

#endif
