/* timeline - a start as people want to see it: one bar a step, the critical path marked. */
#ifndef PREHEAT_STARTGRAPH_TIMELINE_H
#define PREHEAT_STARTGRAPH_TIMELINE_H

#include "base/buf.h"
#include "startgraph/graph.h"

/* timeline_critical_path - marks the steps that the end of the start waited for: the step that
 * ended last, what it waited for last, and so on. */
void timeline_critical_path(const StepReport *reports, size_t n, bool *ret_critical);

/* timeline_end_usec - when the last step ended. */
uint64_t timeline_end_usec(const StepReport *reports, size_t n);

/* timeline_path - the critical path in one line, "manifest 0.010 s, load 0.300 s", in the order of
 * time. */
void timeline_path(const StepReport *reports, size_t n, Buf *out);

/* timeline_text - lines of at most `columns` (60 or more) characters: name, bar, seconds, outcome.
 */
void timeline_text(const StepReport *reports, size_t n, int columns, Buf *out);

/* timeline_svg - the same as a picture that stands alone. */
void timeline_svg(const StepReport *reports, size_t n, Buf *out);

#endif
