/* observer - lets a test look at the tensors inside a forward pass.
 *
 * The call comes in stream order, before the tensor is overwritten: a download given to the stream
 * there gets its value. A NULL observer costs a comparison. */
#ifndef PREHEAT_MODEL_OBSERVER_H
#define PREHEAT_MODEL_OBSERVER_H

#include "backend/stream.h"

typedef struct Observer {
    /* index is the layer's number, or -1 where there is but one tensor of the name */
    void (*see)(void *context, Stream *s, const char *name, int64_t index, View v);
    void *context;
} Observer;

static inline void observer_see(
        const Observer *o, Stream *s, const char *name, int64_t index, View v) {
    if (o)
        o->see(o->context, s, name, index, v);
}

#endif
