/* weights - a part's tensors: held against the architecture, grouped by layer, brought to the
 * device.
 *
 * A table says which tensors an object (a block, a layer) has; binding checks each tensor's name,
 * dtype and shape in the checkpoint and gives the object's views their shapes, which is all that a
 * planning stream needs and all that checking a checkpoint needs: no backend is involved. Loading a
 * group imports its tensors into one piece of device memory. Model code calls weights_need() before
 * it uses a group; where the group's bytes come from, and when, is decided behind that call.
 *
 * Belongs to the worker thread, but for weights_load*(): those may run on another thread, with a
 * stream of its own, between weights_expect() and weights_settle(), while the worker computes. The
 * checkpoint and the bound objects must outlive the Weights. */
#ifndef PREHEAT_MODEL_WEIGHTS_H
#define PREHEAT_MODEL_WEIGHTS_H

#include "backend/stream.h"
#include "store/checkpoint.h"

#include <stddef.h>

typedef struct Weights Weights;
typedef struct WeightGroup WeightGroup;

/* One tensor of an object. Its view gets the stored extents, except that a WEIGHT_MATRIX keeps its
 * first axis and flattens the others, and a WEIGHT_VECTOR drops axes of one. */
typedef struct WeightSpec {
    const char *name; /* after the object's prefix */
    size_t offset;    /* of the View in the object */
    WeightKind kind;
    int rank;                   /* as stored */
    int32_t dim[VIEW_MAX_RANK]; /* as stored, WEIGHT_DIM or WEIGHT_FIXED */
    int part, n_parts;          /* part of n_parts equal ones of the first axis; 0, 0: all of it */
    const char *alias;          /* another name under which the tensor may be found, or NULL */
} WeightSpec;

/* An extent: an int64_t member of the dims struct given to weights_bind(), or a number. */
#define WEIGHT_DIM(type, member) ((int32_t)offsetof(type, member))
#define WEIGHT_FIXED(n) (-(int32_t)(n))

/* {WEIGHT("norm.weight", Block, norm_w, WEIGHT_VECTOR, WEIGHT_DIM(Dims, width))}, the extents last;
 * .part, .n_parts and .alias may follow. */
#define WEIGHT(name_, type, member, kind_, ...)                                                    \
    .name = (name_), .offset = offsetof(type, member), .kind = (kind_),                            \
    .rank = (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), .dim = {__VA_ARGS__}

/* weights_new - part is "text_encoder", "transformer" or "vae". */
int weights_new(Checkpoint *c, const char *part, Weights **ret, Err *err);
Weights *weights_free(Weights *w);

/* weights_add_group - an empty group, loaded after those before it; freed with w. */
int weights_add_group(Weights *w, const char *name, WeightGroup **ret, Err *err);

/* weights_bind - finds and checks the table's tensors, shapes the object's views, notes them for
 * loading.
 *
 * Returns 0; -ENOENT (no such tensor); -EBADMSG (another dtype or shape), the sentence naming the
 * tensor, what it is and what it must be; -ENOMEM. */
int weights_bind(WeightGroup *g, const WeightSpec spec[], size_t n_specs, const char *prefix,
        void *object, const void *dims, Err *err);

/* weights_bytes - device memory that loading everything takes. */
uint64_t weights_bytes(const Weights *w, Backend *b);

/* weights_load - imports every group that is not loaded, in order; waits for bytes of a segment
 * that is still being filled.
 *
 * The imports are in stream order: their failure is told by stream_finish(). Returns 0; -ENOMEM;
 * -ETIMEDOUT when a group's bytes did not arrive within timeout_usec; errors of checkpoint_wait().
 */
int weights_load(Weights *w, Stream *s, uint64_t timeout_usec, Err *err);
int weights_load_group(WeightGroup *g, Stream *s, uint64_t timeout_usec, Err *err);

/* weights_adopt_group - as weights_load_group(), with the device memory of another process that
 * loaded the same group with the same build: nothing is copied. Waits only for bytes that are used
 * in host memory.
 *
 *   m  weights_group_bytes() long, more than 0; the group's from then on, unless it fails
 *
 * Returns as weights_load_group(); -EBADMSG when m has another size; -EEXIST when the group is
 * loaded. */
int weights_adopt_group(WeightGroup *g, Stream *s, Memory *m, uint64_t timeout_usec, Err *err);

/* weights_group_memory - what weights_load_group() took for the group, NULL when nothing; the
 * group's. */
Memory *weights_group_memory(const WeightGroup *g);

/* weights_will_need - the group is about to be loaded: checkpoint_will_need() for what it copies.
 */
void weights_will_need(const WeightGroup *g, Backend *b);

/* weights_expect - from now on weights_need() waits for groups that are not loaded yet, until
 * weights_settle() says that no more will come, and how the load ended: 0 or the code that a stream
 * fails with that needs one of the others. */
void weights_expect(Weights *w);
void weights_settle(Weights *w, int result);

/* weights_stream - brings the groups first .. first + n - 1 through two pieces of device memory
 * from now on: while model code uses one, the next is copied beside it, the first after the last.
 * Model code must come to them in that order. Those that are loaded are dropped; no stream may be
 * using them.
 *
 * Waits for the bytes of all of them. Returns 0; -ENOMEM; -ETIMEDOUT. */
int weights_stream(Weights *w, Backend *b, size_t first, size_t n, uint64_t timeout_usec, Err *err);

/* weights_streams - whether weights_stream() is in force. */
bool weights_streams(const Weights *w);

/* weights_stream_end - gives the two pieces back; no stream may be using them. */
void weights_stream_end(Weights *w);

/* weights_stream_bytes - device memory that weights_stream() takes. */
uint64_t weights_stream_bytes(const Weights *w, Backend *b, size_t first, size_t n);

/* weights_group_bytes - device memory that loading the group takes. */
uint64_t weights_group_bytes(const WeightGroup *g, Backend *b);

/* weights_visit_copied - calls see with the host bytes of each tensor of the group that loading
 * copies to device memory, in order. */
void weights_visit_copied(
        const WeightGroup *g, Backend *b, void (*see)(void *context, View host), void *context);

/* weights_drop_group - gives its device memory back; no stream may still be using it. */
void weights_drop_group(WeightGroup *g);

/* weights_need - later ops of s may use the group. Waits while it is expected; fails the stream
 * when it was not loaded. Neither waits nor sends for anything on a failed stream, which will do no
 * op. Worker thread. */
void weights_need(WeightGroup *g, Stream *s);

const char *weights_part(const Weights *w);
size_t weights_n_groups(const Weights *w);
WeightGroup *weights_group_at(const Weights *w, size_t i);
const char *weights_group_name(const WeightGroup *g);

/* weights_find_nonfinite - reads every bound tensor's bytes; -EDOM names the first with a NaN or an
 * infinity and says where. */
int weights_find_nonfinite(const Weights *w, Err *err);

/* weights_is_bound - whether a tensor of the part is one that some table asked for. */
bool weights_is_bound(const Weights *w, const char *name);

#endif
