/* reference - one file of reference tensors: its tensors by name, its metadata.
 *
 * The whole file is in memory, views point into it until reference_close(). Remembers which tensors
 * were asked for, so that one which nothing was compared with does not pass for checked. */
#ifndef PREHEAT_GOLDEN_REFERENCE_H
#define PREHEAT_GOLDEN_REFERENCE_H

#include "base/json.h"
#include "store/safetensors.h"
#include "tensor/view.h"

#include <stdbool.h>

typedef struct Reference {
    char *data;
    Safetensors head;
    json_t *metadata; /* an object, empty where the file has none */
    bool *asked;      /* [head.n_entries] */
} Reference;

int reference_open(const char *path, Reference *ret, Err *err);
void reference_close(Reference *f);

bool reference_has(const Reference *f, const char *name);

/* reference_get - a tensor of that dtype and shape; an extent of -1 may be anything above 0.
 *
 * Returns 0; -ENOENT; -EBADMSG naming the tensor, what it is and what it must be. */
int reference_get(const Reference *f, const char *name, DType dtype, int rank, const int64_t dim[],
        View *ret, Err *err);
#define REFERENCE_GET(f, name, dtype, ret, err, ...)                                               \
    reference_get((f), (name), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
            (const int64_t[]){__VA_ARGS__}, (ret), (err))

/* reference_unasked - the next tensor from *i on that nothing asked for, or NULL. */
const char *reference_unasked(const Reference *f, size_t *i);

/* reference_text, _int, _real - metadata, which is text throughout. -EBADMSG says which and why. */
int reference_text(const Reference *f, const char *key, const char **ret, Err *err);
int reference_int(
        const Reference *f, const char *key, int64_t min, int64_t max, int64_t *ret, Err *err);
int reference_real(
        const Reference *f, const char *key, double min, double max, double *ret, Err *err);

#endif
