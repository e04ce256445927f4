/* pickle-impl - the machine that reads a pickle, and what torch.save() means by its values. */
#ifndef PREHEAT_STORE_PICKLE_IMPL_H
#define PREHEAT_STORE_PICKLE_IMPL_H

#include "store/pickle.h"

typedef enum ValueKind {
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_TEXT,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_GLOBAL,
    VALUE_STORAGE,
    VALUE_TENSOR,
} ValueKind;

typedef enum GlobalKind { GLOBAL_ORDERED_DICT, GLOBAL_REBUILD, GLOBAL_STORAGE_TYPE } GlobalKind;

typedef struct Global {
    const char *module, *name;
    GlobalKind kind;
    DType dtype; /* GLOBAL_STORAGE_TYPE */
} Global;

typedef struct Value Value;

typedef struct Pair {
    const Value *key, *value;
    struct Pair *next;
} Pair;

typedef struct Storage {
    const char *key;
    DType dtype;
    uint64_t count;
} Storage;

struct Value {
    ValueKind kind;
    union {
        int64_t number;
        const char *text;
        const Global *global;
        Storage storage;
        PickleTensor *tensor;
        struct {
            const Value **item;
            size_t n;
        } tuple;
        struct {
            Pair *first, *last;
            size_t n;
        } dict;
    };
};

/* Values are shared by reference and, but for dictionaries, never change. */
typedef struct Machine {
    const uint8_t *at, *end;
    size_t n_bytes;
    Arena *arena;
    const Value **stack; /* heap, as memo */
    size_t n_stack, stack_room;
    size_t mark[PICKLE_MAX_MARKS], n_marks;
    const Value **memo;
    size_t memo_room;
    size_t n_values;
    const Value *result;
    Err *err;
} Machine;

/* pickle.c: the machine. A failure is in m->err. */
const char *pickle_kind_name(ValueKind kind);
int pickle_no_memory(Machine *m);
int pickle_value_new(Machine *m, ValueKind kind, Value **ret);
int pickle_push(Machine *m, const Value *v);

/* pickle_pop_kind - the topmost value, which must be of a kind; `what` names it in a refusal. */
int pickle_pop_kind(Machine *m, ValueKind kind, const char *what, const Value **ret);

/* pickle-torch.c: the opcodes GLOBAL, BINPERSID and REDUCE, and the end. */
int pickle_global(Machine *m);
int pickle_storage(Machine *m);
int pickle_call(Machine *m);

/* pickle_list_tensors - the machine's result, which must be a dictionary of them. */
int pickle_list_tensors(Machine *m, Pickle *p);

#endif
