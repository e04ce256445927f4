/* json - reading foreign JSON: parse with limits, take typed members with errors that name them.
 *
 * Values are jansson's json_t. Getters write only on success. A name in an error is quoted as given
 * by `path`, the dotted place of the object in its document ("" for the top). */
#ifndef PREHEAT_BASE_JSON_H
#define PREHEAT_BASE_JSON_H

#include "base/cleanup.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define _cleanup_json_ _cleanup_(json_decrefp)

/* json_parse - one value that fills the whole text; duplicate keys and NUL in strings are refused.
 *
 * Returns 0; -EINVAL with line and column; -ENOMEM. The caller owns *ret. */
int json_parse(const char *text, size_t n, json_t **ret, Err *err);

typedef enum JsonNeed { JSON_OPTIONAL, JSON_REQUIRED } JsonNeed;

/* json_get_* - a member of object. Optional ones that are absent or null leave *ret alone.
 *
 * Returns 0; -EINVAL naming path.key, what it is and what it must be. Integers must lie in
 * min..max. Strings are borrowed from the object. */
int json_get_int(const json_t *object, const char *path, const char *key, JsonNeed need,
        int64_t min, int64_t max, int64_t *ret, Err *err);
int json_get_real(const json_t *object, const char *path, const char *key, JsonNeed need,
        double *ret, Err *err);
int json_get_bool(const json_t *object, const char *path, const char *key, JsonNeed need, bool *ret,
        Err *err);
int json_get_string(const json_t *object, const char *path, const char *key, JsonNeed need,
        const char **ret, Err *err);

#endif
