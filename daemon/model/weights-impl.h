/* weights-impl - what weights.c and weights-stream.c share. */
#ifndef PREHEAT_MODEL_WEIGHTS_IMPL_H
#define PREHEAT_MODEL_WEIGHTS_IMPL_H

#include "model/weights.h"

#include <pthread.h>

enum { WEIGHT_ALIGNMENT = 256 };

/* One bound tensor, or part of one. */
typedef struct Binding {
    char *name; /* in the checkpoint */
    View *slot; /* where model code reads it; borrowed from the bound object */
    WeightKind kind;
    View host;   /* bytes in the checkpoint, extents as model code wants them */
    View loaded; /* what goes to the slot once the group is ready */
} Binding;

struct WeightGroup {
    Weights *weights; /* whose it is */
    char *name;
    Binding *bindings;
    size_t n_bindings, room;
    Memory *memory; /* what the device keeps of it, NULL when nothing is needed */
    Event *ready;  /* recorded after the imports; NULL while the group is not loaded; under the lock
                    */
    bool in_place; /* the objects' views show what was loaded; the worker's */
};

struct Weights {
    Checkpoint *checkpoint; /* borrowed */
    const char *part;       /* static text of the caller */
    WeightGroup **groups;
    size_t n_groups, room;

    struct WeightsRing *ring; /* NULL: nothing is streamed */

    pthread_mutex_t
            lock; /* between a loader and the worker: `ready` of the groups, expected, result */
    pthread_cond_t changed;
    bool expected;
    int result; /* of the load, once nothing is expected any more */
};

/* weights_await_bytes - until the group's bytes are in memory and verified. -ETIMEDOUT. */
int weights_await_bytes(const WeightGroup *g, uint64_t timeout_usec, Err *err);

/* weights_import_group - imports the group's tensors to storage of weights_group_bytes(). */
void weights_import_group(WeightGroup *g, Stream *s, char *storage);

/* weights_is_streamed, weights_fetch - for weights_need(): g->ready is set by the latter, and the
 * next group is on its way. */
bool weights_is_streamed(const WeightGroup *g);
void weights_fetch(WeightGroup *g, Stream *s);

#endif
