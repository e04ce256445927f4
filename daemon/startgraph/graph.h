/* graph - named steps with dependencies, each run on its own thread as soon as what it needs is
 * done.
 *
 * Knows nothing of models: the steps are a table that the main passes in. One owner starts, waits
 * and frees. A try that takes too long is given up, not killed (threads cannot be): it may not keep
 * what it has built, and graph_free() waits for it. */
#ifndef PREHEAT_STARTGRAPH_GRAPH_H
#define PREHEAT_STARTGRAPH_GRAPH_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GRAPH_MAX_STEPS = 32, STEP_MAX_NEEDS = 6 };

typedef struct Graph Graph;
typedef struct StepCall StepCall;

/* What the last failure of a step means. */
typedef enum StepFailure {
    STEP_CRITICAL,        /* the graph is rolled back, in reverse order of completion */
    STEP_SKIP_DEPENDENTS, /* what needs the step is skipped, the rest goes on */
    STEP_GO_ON,           /* what needs the step runs all the same */
} StepFailure;

/* Returns 0 or negative errno; with 0, a sentence in err is a remark that the report keeps. Long
 * steps ask step_is_late(call) now and then and stop if it is true. */
typedef int StepFunc(void *context, const StepCall *call, Err *err);

typedef struct Step {
    const char *name;
    const char *needs[STEP_MAX_NEEDS]; /* names of other steps; NULL ends */
    StepFunc *run;
    StepFunc *fallback; /* tried once when run has failed for good; NULL: none */
    void (*undo)(
            void *context); /* takes back what run or fallback built; NULL: nothing to take back */
    StepFailure on_failure;
    uint64_t timeout_usec; /* of one try; 0: none */
    int retries;           /* tries after the first */
    int retried;           /* the failure, a negative errno, that they are for; 0: any */
    uint64_t backoff_usec; /* before the first retry, doubled for each further one */
} Step;

/* step_keep - whether a try may put what it has built where other steps, and its undo, find it.
 *
 * Asked once, before anything shared is written, by every step that has a timeout and an undo. With
 * true the try counts as in time, however long it still takes; with false nobody waits for it any
 * more: it frees what it has built and fails. Steps without a timeout may always keep. */
bool step_keep(const StepCall *call);

/* step_is_late - true when nobody waits for this try any more, or the graph was cancelled. */
bool step_is_late(const StepCall *call);

/* step_is_last_try - false when a failure that the step's `retried` names will be tried again. */
bool step_is_last_try(const StepCall *call);

typedef enum StepOutcome {
    STEP_PENDING,
    STEP_RUNNING,
    STEP_DONE,
    STEP_FELL_BACK, /* run failed, fallback did it */
    STEP_FAILED,
    STEP_TIMED_OUT,
    STEP_SKIPPED,
    STEP_UNDONE,
    N_STEP_OUTCOMES,
} StepOutcome;

/* "pending", "running", "done", "fell back", ... */
const char *step_outcome_name(StepOutcome o);

typedef struct StepReport {
    const char *name;
    StepOutcome outcome;
    int tries;
    uint64_t start_usec, end_usec; /* since graph_start(); 0 where it has not come to that */
    int last_need;                 /* index of the need that ended last, -1: none */
    Err err; /* the last failure, also one that a retry or the fallback mended; why it was skipped;
                or a remark */
} StepReport;

typedef struct GraphOptions {
    const Step *steps; /* must outlive the graph */
    size_t n_steps;
    void *context; /* passed to every step */
    void (*on_change)(
            void *change_context); /* after each outcome, on a graph thread, unlocked; or NULL */
    void *change_context;
} GraphOptions;

/* graph_start - checks the table and starts the steps.
 *
 * Returns 0; -EINVAL for an empty or repeated name, a need that is no step, a cycle (its path in
 * the sentence); -ENOMEM or -EAGAIN without threads, with nothing left running. */
int graph_start(const GraphOptions *options, Graph **ret, Err *err);

typedef enum GraphState { GRAPH_RUNNING, GRAPH_DONE, GRAPH_ROLLED_BACK } GraphState;

/* graph_wait - until every step has its outcome or the timeout (USEC_INFINITY: none) has passed.
 *
 * Returns 0, *ret_state being GRAPH_RUNNING after a timeout; or the failed critical step's code
 * with GRAPH_ROLLED_BACK, its name and reason in err. All is undone then, unless a try that was
 * given up still runs: it may use what earlier steps built, which is undone behind it. */
int graph_wait(Graph *g, uint64_t timeout_usec, GraphState *ret_state, Err *err);

/* graph_cancel - nothing new starts, steps that run are late from now on, and the graph ends as
 * GRAPH_DONE with nothing undone: what was built is the owner's. Any thread. */
void graph_cancel(Graph *g);

/* graph_report - a copy of the reports, n_steps of them in the table's order. Any thread. */
void graph_report(Graph *g, StepReport *ret);

/* graph_settle - until every step has its outcome, then for up to the timeout until no try that was
 * given up runs any more. Returns 0; -ETIMEDOUT: graph_free() would wait for a thread that nobody
 * can end. */
int graph_settle(Graph *g, uint64_t timeout_usec);

/* graph_free - waits for what still runs; undoes nothing. */
Graph *graph_free(Graph *g);

#endif
