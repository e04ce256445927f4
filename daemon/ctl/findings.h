/* findings - what a check-up of this machine has found: each with what to do about it. */
#ifndef PREHEAT_CTL_FINDINGS_H
#define PREHEAT_CTL_FINDINGS_H

#include "base/err.h"

#include <jansson.h>
#include <stdio.h>

typedef enum FindingState {
    FINDING_OK,
    FINDING_NOTE,    /* preheat works, but slower or with less than it could */
    FINDING_PROBLEM, /* requests fail until it is mended */
    N_FINDING_STATES,
} FindingState;

typedef struct Finding {
    const char *name; /* static */
    FindingState state;
    char text[400];   /* what was found; longer ones are cut */
    char advice[200]; /* what to do; empty: nothing */
} Finding;

enum { FINDINGS_MAX = 48 };

typedef struct Findings {
    Finding item[FINDINGS_MAX];
    size_t n;
} Findings;

/* findings_add - advice NULL: nothing is to be done. Beyond FINDINGS_MAX the last one is replaced.
 */
void findings_add(Findings *f, const char *name, FindingState state, const char *advice,
        const char *fmt, ...) _printf_(5, 6);

size_t findings_count(const Findings *f, FindingState state);

/* findings_print - one line each, wrapped to columns (0: not wrapped), and a last one that counts.
 */
void findings_print(const Findings *f, int columns, FILE *out);

/* findings_json - [{"check", "state", "found", "advice"}]; NULL when out of memory. */
json_t *findings_json(const Findings *f);

#endif
