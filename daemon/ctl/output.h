/* output - a file that appears whole or not at all. */
#ifndef PREHEAT_CTL_OUTPUT_H
#define PREHEAT_CTL_OUTPUT_H

#include "base/cleanup.h"
#include "base/err.h"

/* Written beside its final name, removed unless published. "-" is standard output. */
typedef struct Output {
    int fd;
    char *path, *temporary; /* temporary is NULL for standard output */
} Output;

int output_open(const char *path, Output *ret, Err *err);

/* output_check - that output_open() is likely to succeed, before work is done for it; leaves
 * nothing. NULL: a file of some name in the current directory. */
int output_check(const char *path, Err *err);

/* output_publish - syncs and renames; an existing file is replaced. */
int output_publish(Output *o, Err *err);

/* output_done - removes what was not published. Zero-initialised needs none but bears it. */
void output_done(Output *o);

#endif
