/* entity-impl - the table of named character references. */
#ifndef PREHEAT_MODEL_ENTITY_IMPL_H
#define PREHEAT_MODEL_ENTITY_IMPL_H

#include <stdbool.h>
#include <stdint.h>

enum { ENTITY_COUNT = 2125, ENTITY_MAX_NAME = 31 };

typedef struct Entity {
    char name[ENTITY_MAX_NAME + 1]; /* without & and ; */
    bool bare;                      /* known without semicolon, too */
    uint32_t code, second;          /* one or two code points; second 0: one */
} Entity;

extern const Entity entity_table[ENTITY_COUNT];

#endif
