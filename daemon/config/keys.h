/* keys - the table of configuration keys: where each value goes, its range, default and meaning. */
#ifndef PREHEAT_CONFIG_KEYS_H
#define PREHEAT_CONFIG_KEYS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum KeyType {
    KEY_TEXT, /* char *: UTF-8 without control characters */
    KEY_PATH, /* char *: absolute, or empty where the default is empty */
    KEY_INT,  /* int64_t: min..max */
    KEY_REAL, /* double: min..max */
    KEY_SIZE, /* uint64_t: bytes, with K, M, G or T for powers of 1024; min..max */
    KEY_SPAN, /* uint64_t: microseconds, written with ms, s, min, h or d, seconds without; min..max
                 in seconds; 0 also where zero is given a meaning */
    KEY_CHOICE, /* int: index into the words of choices */
} KeyType;

typedef struct Key {
    const char *section, *name;
    KeyType type;
    size_t offset; /* in Config */
    double min, max;
    const char *zero;         /* what 0 or empty means, NULL where it means nothing special */
    const char *choices;      /* words with a space between */
    const char *default_text; /* as it would stand in a file */
    const char *explain;
} Key;

/* key_table - all keys, grouped by section. */
const Key *key_table(size_t *ret_n);

/* key_find - NULL when there is no such key. section_known tells which of the two is unknown. */
const Key *key_find(const char *section, const char *name, bool *ret_section_known);

/* key_set - parses text and stores it at the key's place in base.
 *
 * Returns 0; -ENOMEM; -EINVAL with "is '...', allowed is ...". */
int key_set(const Key *k, const char *text, void *base, Err *err);

/* key_free - frees what key_set() stored, if anything. */
void key_free(const Key *k, void *base);

/* key_allowed - "a whole number from 1 to 64" and the like, appended. */
void key_allowed(const Key *k, Buf *out);

#endif
