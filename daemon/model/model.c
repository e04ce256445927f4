#include "model/model.h"

#include "base/cleanup.h"
#include "base/macro.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

DEFINE_CLEANUP(Model, model_free)

int model_new(Checkpoint *c, Model **ret, Err *err) {
    _cleanup_(model_freep) Model *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, -ENOMEM, "no memory for a model");
    int r = dims_read(c, &m->dims, err);
    if (r == 0)
        r = umt5_new(c, &m->dims.t5, &m->umt5, err);
    if (r == 0)
        r = dit_new(c, &m->dims.dit, &m->dit, err);
    if (r == 0)
        r = vae_new(c, &m->dims.vae, &m->vae, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

Model *model_free(Model *m) {
    if (!m)
        return NULL;
    umt5_free(m->umt5);
    dit_free(m->dit);
    vae_free(m->vae);
    free(m);
    return NULL;
}

enum { N_PARTS = 3 };

static void all_weights(const Model *m, Weights *ret[static N_PARTS]) {
    ret[0] = umt5_weights(m->umt5);
    ret[1] = dit_weights(m->dit);
    ret[2] = vae_weights(m->vae);
}

uint64_t model_bytes(const Model *m, Backend *b) {
    Weights *w[N_PARTS];
    all_weights(m, w);
    return weights_bytes(w[0], b) + weights_bytes(w[1], b) + weights_bytes(w[2], b);
}

int model_load(Model *m, Stream *s, uint64_t timeout_usec, Err *err) {
    Weights *w[N_PARTS];
    all_weights(m, w);
    int r = 0;
    for (int i = 0; r == 0 && i < N_PARTS; i++)
        r = weights_load(w[i], s, timeout_usec, err);
    return r;
}

int model_find_nonfinite(const Model *m, Err *err) {
    Weights *w[N_PARTS];
    all_weights(m, w);
    int r = 0;
    for (int i = 0; r == 0 && i < N_PARTS; i++)
        r = weights_find_nonfinite(w[i], err);
    return r;
}

static const Weights *weights_of(const Model *m, const char *part) {
    Weights *w[N_PARTS];
    all_weights(m, w);
    for (int i = 0; i < N_PARTS; i++)
        if (str_eq(weights_part(w[i]), part))
            return w[i];
    return NULL;
}

int model_check(const Manifest *manifest, Checkpoint *c, Buf *unexpected, Err *err) {
    _cleanup_(model_freep) Model *m = NULL;
    int r = model_new(c, &m, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < manifest_n_tensors(manifest); i++) {
        const ManifestTensor *t = manifest_tensor(manifest, i);
        const Weights *w = weights_of(m, t->part);
        if (unexpected && !(w && weights_is_bound(w, t->name)))
            buf_printf(unexpected, "%s: %s\n", t->part, t->name);
    }
    if (unexpected && buf_failed(unexpected))
        return err_set(err, -ENOMEM, "no memory for the list of unexpected tensors");
    return 0;
}
