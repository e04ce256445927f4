#include "startgraph/graph.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* One try of one step. Belongs to its node until it is given up, to its thread from then on. */
struct StepCall {
    Graph *graph;
    size_t index;
    StepFunc *func;
    bool last;
    atomic_bool late; /* relaxed: a hint to stop early, nobody decides by it */
    bool given_up;    /* nobody waits for it any more */
    bool kept;        /* it has put its result where others find it: is not given up */
    bool returned;
    int result;
    Err err;
};

typedef struct Node {
    Graph *graph;
    pthread_t thread;
    StepReport report;
    int completion; /* order of success, from 1; 0: none */
    StepCall *call; /* the try that runs on this thread; NULL: none, or it has a timeout */
} Node;

/* The lock guards all that changes; steps run without it. Every step has one thread that waits for
 * the step's needs, so that nobody schedules. */
struct Graph {
    GraphOptions options;
    uint64_t start;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    GraphState state;
    int stopping;   /* index + 1 of the critical step that failed: nothing new starts */
    bool cancelled; /* nor then */
    size_t n_threads, n_unsettled;
    int n_late; /* tries that were given up and still run */
    int n_completed;
    Node node[GRAPH_MAX_STEPS];
};

const char *step_outcome_name(StepOutcome o) {
    static const char *const names[N_STEP_OUTCOMES] = {
            "pending", "running", "done", "fell back", "failed", "timed out", "skipped", "undone"};
    assert(o < N_STEP_OUTCOMES);
    return names[o];
}

bool step_is_late(const StepCall *call) {
    return atomic_load_explicit(&call->late, memory_order_relaxed);
}

bool step_keep(const StepCall *call) {
    StepCall *c = (StepCall *)call; /* ours; it is the step's that is constant */
    (void)pthread_mutex_lock(&c->graph->lock);
    bool kept = c->kept = !c->given_up;
    (void)pthread_mutex_unlock(&c->graph->lock);
    return kept;
}

bool step_is_last_try(const StepCall *call) {
    return call->last;
}

/* Lock held. */
static bool may_start(const Graph *g) {
    return !g->stopping && !g->cancelled;
}

static size_t n_needs(const Step *s) {
    size_t n = 0;
    while (n < STEP_MAX_NEEDS && s->needs[n])
        n++;
    return n;
}

/* n_steps when there is none of that name. */
static size_t find_step(const GraphOptions *o, const char *name) {
    size_t i = 0;
    while (i < o->n_steps && !str_eq(o->steps[i].name, name))
        i++;
    return i;
}

static int refuse_cycle(
        const GraphOptions *o, const size_t *path, size_t first, size_t last, Err *err) {
    char text[300];
    int used = 0;
    for (size_t k = first; k <= last && used < (int)sizeof(text); k++)
        used += snprintf(text + used, sizeof(text) - (size_t)used, "%s%s", k > first ? " -> " : "",
                o->steps[path[k]].name);
    return err_set(err, -EINVAL, "steps form a cycle: %s", text);
}

/* Depth first; path[0 .. depth - 1] are the steps on the way here. */
static int check_from(
        const GraphOptions *o, size_t index, size_t *path, size_t depth, bool *checked, Err *err) {
    path[depth] = index;
    for (size_t i = 0; i < depth; i++)
        if (path[i] == index)
            return refuse_cycle(o, path, i, depth, err);
    if (checked[index])
        return 0;
    const Step *s = &o->steps[index];
    for (size_t i = 0; i < n_needs(s); i++) {
        size_t need = find_step(o, s->needs[i]);
        if (need == o->n_steps)
            return err_set(
                    err, -EINVAL, "step '%s' needs '%s', which is no step", s->name, s->needs[i]);
        int r = check_from(o, need, path, depth + 1, checked, err);
        if (r < 0)
            return r;
    }
    checked[index] = true;
    return 0;
}

static int check_table(const GraphOptions *o, Err *err) {
    if (o->n_steps == 0 || o->n_steps > GRAPH_MAX_STEPS)
        return err_set(
                err, -EINVAL, "%zu steps, there must be 1 to %d", o->n_steps, (int)GRAPH_MAX_STEPS);
    for (size_t i = 0; i < o->n_steps; i++) {
        if (!o->steps[i].name || !*o->steps[i].name)
            return err_set(err, -EINVAL, "step %zu has no name", i);
        if (find_step(o, o->steps[i].name) != i)
            return err_set(err, -EINVAL, "two steps are named '%s'", o->steps[i].name);
        assert(o->steps[i].run);
    }
    bool checked[GRAPH_MAX_STEPS] = {false};
    size_t path[GRAPH_MAX_STEPS + 1];
    for (size_t i = 0; i < o->n_steps; i++) {
        int r = check_from(o, i, path, 0, checked, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* With the lock held. Returns at the deadline at the latest. */
static void wait_changed(Graph *g, uint64_t deadline) {
    if (deadline == USEC_INFINITY) {
        (void)pthread_cond_wait(&g->changed, &g->lock);
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(deadline / USEC_PER_SEC),
            .tv_nsec = (long)(deadline % USEC_PER_SEC) * 1000};
    (void)pthread_cond_timedwait(&g->changed, &g->lock, &until);
}

/* Lock held; let go while the steps are undone. Nothing runs any more, late tries included: they
 * may use what earlier steps built. */
static void roll_back(Graph *g) {
    for (int completion = g->n_completed; completion > 0; completion--) {
        for (size_t i = 0; i < g->options.n_steps; i++) {
            if (g->node[i].completion != completion)
                continue;
            void (*undo)(void *) = g->options.steps[i].undo;
            (void)pthread_mutex_unlock(&g->lock);
            if (undo)
                undo(g->options.context);
            (void)pthread_mutex_lock(&g->lock);
            g->node[i].report.outcome = STEP_UNDONE;
        }
    }
}

static void *call_main(void *argument) {
    StepCall *c = argument;
    Graph *g = c->graph;
    int r = c->func(g->options.context, c, &c->err);

    (void)pthread_mutex_lock(&g->lock);
    c->result = r;
    c->returned = true;
    if (c->given_up) {
        assert(r < 0 || !g->options.steps[c->index].undo); /* it has not asked step_keep() */
        free(c);
        if (g->n_late == 1 && g->state == GRAPH_ROLLED_BACK)
            roll_back(g);
        g->n_late--;
    }
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
    return NULL;
}

static int start_detached(StepCall *c) {
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int r = pthread_create(&thread, &attributes, call_main, c);
    (void)pthread_attr_destroy(&attributes);
    return -r;
}

/* One try under the step's timeout, hence on a thread that can be left behind. Lock held. */
static int try_with_timeout(Graph *g, size_t index, StepFunc *func, bool last, Err *err) {
    uint64_t timeout = g->options.steps[index].timeout_usec;
    StepCall *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, -ENOMEM, "no memory to run the step");
    c->graph = g;
    c->index = index;
    c->func = func;
    c->last = last;
    int r = start_detached(c);
    if (r < 0) {
        free(c);
        return err_set(err, r, "cannot start a thread: %s", strerror(-r));
    }
    uint64_t deadline = clock_deadline(timeout);
    while (!c->returned && (c->kept || (!g->cancelled && clock_left(deadline) > 0)))
        wait_changed(g, c->kept ? USEC_INFINITY : deadline);
    if (!c->returned) {
        atomic_store_explicit(&c->late, true, memory_order_relaxed);
        c->given_up = true;
        g->n_late++;
        if (g->cancelled)
            return err_set(err, -ECANCELED, "the start was given up");
        return err_set(err, -ETIMEDOUT, "no result within %.3g s", (double)timeout / 1e6);
    }
    r = c->result;
    if (err)
        *err = c->err;
    free(c);
    return r;
}

/* Lock held; let go while the step runs. */
static int try_once(Graph *g, size_t index, StepFunc *func, bool last, Err *err) {
    if (g->options.steps[index].timeout_usec > 0)
        return try_with_timeout(g, index, func, last, err);
    StepCall c = {.graph = g, .index = index, .func = func, .last = last};
    g->node[index].call = &c;
    (void)pthread_mutex_unlock(&g->lock);
    int r = func(g->options.context, &c, err);
    (void)pthread_mutex_lock(&g->lock);
    g->node[index].call = NULL;
    return r;
}

static StepOutcome run_step(Graph *g, size_t index, StepReport *report) {
    const Step *step = &g->options.steps[index];
    uint64_t backoff = step->backoff_usec;
    int r = 0;
    for (int i = 0; i <= step->retries; i++) {
        if (i > 0) {
            uint64_t deadline = clock_deadline(backoff);
            while (may_start(g) && clock_left(deadline) > 0)
                wait_changed(g, deadline);
            if (!may_start(g))
                break;
            backoff = backoff > UINT64_MAX / 2 ? backoff : backoff * 2;
        }
        Err last = {0};
        report->tries++;
        r = try_once(g, index, step->run, i == step->retries, &last);
        if (r == 0) { /* the reason of an earlier try stays in the report */
            if (last.code)
                report->err = last;
            return STEP_DONE;
        }
        err_clear(&report->err);
        (void)err_set(&report->err, r, "%s", last.code ? err_text(&last) : strerror(-r));
        if (step->retried != 0 && r != step->retried)
            break;
    }
    if (step->fallback && may_start(g)) {
        Err second = {0};
        if (try_once(g, index, step->fallback, true, &second) == 0)
            return STEP_FELL_BACK;
        (void)err_prefix(&report->err, r, "%s, after", err_text(&second));
    }
    return r == -ETIMEDOUT ? STEP_TIMED_OUT : STEP_FAILED;
}

static bool is_settled(StepOutcome o) {
    return o != STEP_PENDING && o != STEP_RUNNING;
}

static bool is_success(StepOutcome o) {
    return o == STEP_DONE || o == STEP_FELL_BACK;
}

/* Lock held. Waits for the step's needs; false, and the reason in the report, when the step is not
 * to run. */
static bool await_needs(Graph *g, size_t index, StepReport *report) {
    const Step *step = &g->options.steps[index];
    bool wanted = true;
    for (size_t i = 0; i < n_needs(step); i++) {
        size_t need = find_step(&g->options, step->needs[i]);
        const StepReport *other = &g->node[need].report;
        while (!is_settled(other->outcome))
            wait_changed(g, USEC_INFINITY);
        if (wanted && !is_success(other->outcome) &&
                g->options.steps[need].on_failure != STEP_GO_ON) {
            wanted = false;
            (void)err_set(&report->err, -ECANCELED, "it needs '%s', which is %s", other->name,
                    step_outcome_name(other->outcome));
        }
        if (report->last_need < 0 || other->end_usec > g->node[report->last_need].report.end_usec)
            report->last_need = (int)need;
    }
    if (wanted && g->cancelled)
        (void)err_set(&report->err, -ECANCELED, "the start was given up");
    else if (wanted && g->stopping)
        (void)err_set(&report->err, -ECANCELED, "step '%s' has failed",
                g->node[g->stopping - 1].report.name);
    return wanted && may_start(g);
}

static void *node_main(void *argument) {
    Node *node = argument;
    Graph *g = node->graph;
    size_t index = (size_t)(node - g->node);
    StepReport *report = &node->report;

    (void)pthread_mutex_lock(&g->lock);
    StepOutcome outcome = STEP_SKIPPED;
    if (await_needs(g, index, report)) {
        report->outcome = STEP_RUNNING;
        report->start_usec = clock_usec() - g->start;
        outcome = run_step(g, index, report);
    }
    report->end_usec = clock_usec() - g->start;
    report->outcome = outcome;
    if (is_success(outcome))
        node->completion = ++g->n_completed;
    else if (g->options.steps[index].on_failure == STEP_CRITICAL && !g->stopping)
        g->stopping = (int)index + 1;

    if (--g->n_unsettled == 0) {
        bool failed = g->stopping && !g->cancelled;
        if (failed && g->n_late == 0) /* else the last of them does */
            roll_back(g);
        g->state = failed ? GRAPH_ROLLED_BACK : GRAPH_DONE;
    }
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
    if (g->options.on_change)
        g->options.on_change(g->options.change_context);
    return NULL;
}

static Graph *graph_alloc(const GraphOptions *options) {
    Graph *g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    g->options = *options;
    g->start = clock_usec();
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&g->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&g->lock, NULL);
    g->n_unsettled = options->n_steps;
    for (size_t i = 0; i < options->n_steps; i++) {
        g->node[i].graph = g;
        g->node[i].report = (StepReport){.name = options->steps[i].name, .last_need = -1};
    }
    return g;
}

int graph_start(const GraphOptions *options, Graph **ret, Err *err) {
    int r = check_table(options, err);
    if (r < 0)
        return r;
    Graph *g = graph_alloc(options);
    if (!g)
        return err_set(err, -ENOMEM, "no memory for a graph of %zu steps", options->n_steps);

    (void)pthread_mutex_lock(&g->lock); /* holds every step back until all threads exist */
    for (size_t i = 0; i < options->n_steps && r == 0; i++) {
        r = -pthread_create(&g->node[i].thread, NULL, node_main, &g->node[i]);
        if (r == 0)
            g->n_threads++;
    }
    if (r < 0) { /* the threads there are skip their steps; the others' steps count as settled */
        g->stopping = (int)g->n_threads + 1;
        for (size_t i = g->n_threads; i < options->n_steps; i++) {
            g->node[i].report.outcome = STEP_SKIPPED;
            g->n_unsettled--;
        }
        g->options.on_change = NULL;
    } else {
        *ret = g; /* before any step runs: on_change may want it */
    }
    (void)pthread_mutex_unlock(&g->lock);
    if (r < 0) {
        graph_free(g);
        return err_set(err, r, "cannot start the threads of %zu steps: %s", options->n_steps,
                strerror(-r));
    }
    return 0;
}

int graph_wait(Graph *g, uint64_t timeout_usec, GraphState *ret_state, Err *err) {
    uint64_t deadline = clock_deadline(timeout_usec);
    (void)pthread_mutex_lock(&g->lock);
    while (g->state == GRAPH_RUNNING && clock_left(deadline) > 0)
        wait_changed(g, deadline);
    *ret_state = g->state;
    int r = 0;
    if (g->state == GRAPH_ROLLED_BACK) {
        const StepReport *failed = &g->node[g->stopping - 1].report;
        r = err_set(err, failed->err.code, "step '%s': %s", failed->name, err_text(&failed->err));
    }
    (void)pthread_mutex_unlock(&g->lock);
    return r;
}

void graph_cancel(Graph *g) {
    (void)pthread_mutex_lock(&g->lock);
    g->cancelled = true;
    for (size_t i = 0; i < g->options.n_steps; i++)
        if (g->node[i].call)
            atomic_store_explicit(&g->node[i].call->late, true, memory_order_relaxed);
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
}

void graph_report(Graph *g, StepReport *ret) {
    (void)pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->options.n_steps; i++)
        ret[i] = g->node[i].report;
    (void)pthread_mutex_unlock(&g->lock);
}

int graph_settle(Graph *g, uint64_t timeout_usec) {
    (void)pthread_mutex_lock(&g->lock);
    while (g->n_unsettled > 0)
        wait_changed(g, USEC_INFINITY);
    uint64_t deadline = clock_deadline(timeout_usec);
    while (g->n_late > 0 && clock_left(deadline) > 0)
        wait_changed(g, deadline);
    int r = g->n_late > 0 ? -ETIMEDOUT : 0;
    (void)pthread_mutex_unlock(&g->lock);
    return r;
}

Graph *graph_free(Graph *g) {
    if (!g)
        return NULL;
    for (size_t i = 0; i < g->n_threads; i++)
        (void)pthread_join(g->node[i].thread, NULL);
    (void)pthread_mutex_lock(&g->lock);
    while (g->n_late > 0)
        wait_changed(g, USEC_INFINITY);
    (void)pthread_mutex_unlock(&g->lock);
    (void)pthread_cond_destroy(&g->changed);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
    return NULL;
}
