/* example - preheat.conf as it is shipped, written from the table of keys. */
#ifndef PREHEAT_CONFIG_EXAMPLE_H
#define PREHEAT_CONFIG_EXAMPLE_H

#include "base/buf.h"

/* example_print - each key commented out at its default, with its explanation above it. */
void example_print(Buf *out);

#endif
