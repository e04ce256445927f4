/* The room startgraph: three steps in a row, started, waited for, told about. */
#include "oom.h"

#include "base/buf.h"
#include "base/clock.h"
#include "startgraph/graph.h"
#include "startgraph/timeline.h"

#include <errno.h>

static int step(void *context, const StepCall *call, Err *err) {
    return 0;
}

static const Step steps[] = {
        {.name = "a", .run = step},
        {.name = "b", .run = step, .needs = {"a"}},
        {.name = "c", .run = step, .needs = {"b"}},
};

static int start(void *context, Err *err) {
    const GraphOptions o = {.steps = steps, .n_steps = 3};
    Graph *g = NULL;
    GraphState state;
    StepReport reports[3];
    int r = graph_start(&o, &g, err);
    if (r < 0)
        return r;
    r = graph_wait(g, USEC_INFINITY, &state, err);
    graph_report(g, reports);
    (void)graph_free(g);
    if (r < 0)
        return r;
    Buf text = {0};
    timeline_text(reports, 3, 80, &text);
    timeline_path(reports, 3, &text);
    bool failed = buf_failed(&text);
    buf_done(&text);
    return failed ? err_set(err, -ENOMEM, "no memory for the timeline") : 0;
}

int main(void) {
    oom_count_up("graph_start, graph_wait, timeline_text", start, NULL, 5);
    return 0;
}
