#include "pipeline/residency.h"

#include <errno.h>

const char *residency_name(Residency r) {
    static const char *const names[N_RESIDENCIES] = {
            "all weights resident", "text encoder streamed", "weights by phase", "layers streamed"};
    assert((unsigned)r < N_RESIDENCIES);
    return names[r];
}

static bool streams_text(Residency r) {
    return r >= RESIDENCY_TEXT_STREAMED;
}

/* Text encoder and DiT are one group, their layers, one group. */
static size_t n_layers(const Weights *w) {
    return weights_n_groups(w) - 2;
}

static uint64_t ends_bytes(const Weights *w, Backend *b) {
    return weights_group_bytes(weights_group_at(w, 0), b) +
           weights_group_bytes(weights_group_at(w, weights_n_groups(w) - 1), b);
}

static uint64_t layers_bytes(const Weights *w, Backend *b, bool streamed) {
    return ends_bytes(w, b) + (streamed ? weights_stream_bytes(w, b, 1, n_layers(w))
                                        : weights_bytes(w, b) - ends_bytes(w, b));
}

uint64_t residency_peak(const Model *m, Backend *b, Residency r, const Workspaces *w) {
    uint64_t text = layers_bytes(umt5_weights(m->umt5), b, streams_text(r));
    uint64_t dit = layers_bytes(dit_weights(m->dit), b, r == RESIDENCY_STREAMED);
    uint64_t encoder = weights_group_bytes(vae_encoder_group(m->vae), b);
    uint64_t decoder = weights_group_bytes(vae_decoder_group(m->vae), b);
    if (r < RESIDENCY_BY_PHASE)
        return text + dit + encoder + decoder + MAX(w->denoise, w->decode);
    return MAX(text + dit + encoder + w->denoise, text + decoder + w->decode);
}

typedef struct Parkable {
    Backend *backend;
    WeightGroup **group;
    size_t n;
    bool overflow;
} Parkable;

static void add_parkable(Parkable *p, WeightGroup *g) {
    if (weights_group_bytes(g, p->backend) == 0)
        return;
    if (p->n == RESIDENCY_MAX_PARKABLE)
        p->overflow = true;
    else
        p->group[p->n++] = g;
}

size_t residency_parkable(
        const Model *m, Backend *b, Residency r, WeightGroup *ret[static RESIDENCY_MAX_PARKABLE]) {
    Parkable p = {.backend = b, .group = ret};
    if (r >= RESIDENCY_BY_PHASE)
        return 0;
    const Weights *layers[] = {umt5_weights(m->umt5), dit_weights(m->dit)};
    for (size_t k = 0; k < ARRAY_LEN(layers); k++) {
        size_t n = weights_n_groups(layers[k]);
        bool streamed = k == 0 && streams_text(r);
        for (size_t i = 0; i < n; i++)
            if (!streamed || i == 0 || i == n - 1)
                add_parkable(&p, weights_group_at(layers[k], i));
    }
    add_parkable(&p, vae_encoder_group(m->vae));
    add_parkable(&p, vae_decoder_group(m->vae));
    return p.overflow ? 0 : p.n;
}

typedef struct Loading {
    Stream *s;
    const ResidencyLoad *how;
    size_t n_loaded, n_groups, n_adopted;
} Loading;

static void cover(void *context, View host) {
    pinner_cover(context, host.data, view_bytes(host));
}

static int load_group(Loading *l, WeightGroup *g, Err *err) {
    int r;
    if (l->how->parked && weights_group_bytes(g, stream_backend(l->s)) > 0) {
        Memory **m = &l->how->parked[l->n_adopted++];
        r = *m ? weights_adopt_group(g, l->s, *m, l->how->timeout_usec, err) : 0;
        if (r == 0)
            *m = NULL;
    } else {
        if (l->how->pinner)
            weights_visit_copied(g, stream_backend(l->s), cover, l->how->pinner);
        r = weights_load_group(g, l->s, l->how->timeout_usec, err);
    }
    if (r < 0 || !l->how->on_group)
        return r;
    r = l->how->on_group(l->how->context, ++l->n_loaded, l->n_groups);
    return r < 0 ? err_set(err, r, "loading was stopped") : 0;
}

static int load_layers(Loading *l, Weights *w, bool streamed, Err *err) {
    size_t n = weights_n_groups(w);
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++)
        if (!streamed || i == 0 || i == n - 1) {
            if (i + 1 < n && !l->how->parked) /* the disk works while this group travels */
                weights_will_need(weights_group_at(w, i + 1), stream_backend(l->s));
            r = load_group(l, weights_group_at(w, i), err);
        }
    for (size_t i = 1; i < n - 1 && streamed && l->how->pinner; i++)
        weights_visit_copied(weights_group_at(w, i), stream_backend(l->s), cover, l->how->pinner);
    if (r == 0 && streamed && !weights_streams(w))
        r = weights_stream(w, stream_backend(l->s), 1, n_layers(w), l->how->timeout_usec, err);
    return r;
}

static size_t n_groups(const Weights *w, bool streamed) {
    return streamed ? 2 : weights_n_groups(w);
}

int residency_load(Model *m, Stream *s, Residency r, const ResidencyLoad *how, Err *err) {
    Weights *text = umt5_weights(m->umt5), *dit = dit_weights(m->dit);
    Loading l = {.s = s, .how = how};
    l.n_groups = n_groups(text, streams_text(r)) + n_groups(dit, r == RESIDENCY_STREAMED) +
                 (r < RESIDENCY_BY_PHASE ? 2 : 1);
    if (r >= RESIDENCY_BY_PHASE)
        weights_drop_group(vae_decoder_group(m->vae));
    int e = load_layers(&l, text, streams_text(r), err);
    if (e == 0)
        e = load_layers(&l, dit, r == RESIDENCY_STREAMED, err);
    if (e == 0)
        e = load_group(&l, vae_encoder_group(m->vae), err);
    if (e == 0 && r < RESIDENCY_BY_PHASE)
        e = load_group(&l, vae_decoder_group(m->vae), err);
    return e < 0 ? e : stream_finish(s, err);
}

int residency_enter_decode(Model *m, Stream *s, Residency r, uint64_t timeout_usec, Err *err) {
    if (r < RESIDENCY_BY_PHASE)
        return 0;
    int e = stream_finish(s, err);
    if (e < 0)
        return e;
    Weights *dit = dit_weights(m->dit);
    weights_stream_end(dit);
    for (size_t i = 0; i < weights_n_groups(dit); i++)
        weights_drop_group(weights_group_at(dit, i));
    weights_drop_group(vae_encoder_group(m->vae));
    return weights_load_group(vae_decoder_group(m->vae), s, timeout_usec, err);
}
