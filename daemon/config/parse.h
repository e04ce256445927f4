/* parse - one ini file's text into a Config, key by key through the table. */
#ifndef PREHEAT_CONFIG_PARSE_H
#define PREHEAT_CONFIG_PARSE_H

#include "config/config.h"

#include <stddef.h>

enum { PARSE_MAX_FILE = 1 << 20 };

/* parse_text - sets what the text sets; file is its name in errors.
 *
 * Returns 0; -EINVAL with "file:line: ..."; -ENOMEM. On failure c holds a part of the text's
 * values. */
int parse_text(const char *file, const char *text, size_t n, Config *c, Err *err);

/* parse_defaults - every key of c at its default. */
int parse_defaults(Config *c, Err *err);

/* parse_check - what only all files together can break: one value against another. */
int parse_check(const Config *c, Err *err);

#endif
