#include "model/weights-impl.h"

#include "base/cleanup.h"
#include "base/half.h"
#include "base/size.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

enum { MAX_NAME = 200 };

int weights_new(Checkpoint *c, const char *part, Weights **ret, Err *err) {
    Weights *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(err, -ENOMEM, "no memory for the weights of '%s'", part);
    w->checkpoint = c;
    w->part = part;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->changed, NULL);
    *ret = w;
    return 0;
}

static WeightGroup *group_free(WeightGroup *g) {
    if (!g)
        return NULL;
    weights_drop_group(g);
    for (size_t i = 0; i < g->n_bindings; i++)
        free(g->bindings[i].name);
    free(g->bindings);
    free(g->name);
    free(g);
    return NULL;
}
DEFINE_CLEANUP(WeightGroup, group_free)

Weights *weights_free(Weights *w) {
    if (!w)
        return NULL;
    weights_stream_end(w);
    for (size_t i = 0; i < w->n_groups; i++)
        group_free(w->groups[i]);
    free(w->groups);
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->lock);
    free(w);
    return NULL;
}

int weights_add_group(Weights *w, const char *name, WeightGroup **ret, Err *err) {
    if (w->n_groups == w->room) {
        size_t room = w->room ? 2 * w->room : 16;
        WeightGroup **groups = reallocarray(w->groups, room, sizeof(*groups));
        if (!groups)
            return err_set(err, -ENOMEM, "no memory for weights '%s'", name);
        w->groups = groups;
        w->room = room;
    }
    _cleanup_(group_freep) WeightGroup *g = calloc(1, sizeof(*g));
    if (!g || !(g->name = strdup(name)))
        return err_set(err, -ENOMEM, "no memory for weights '%s'", name);
    g->weights = w;
    w->groups[w->n_groups++] = *ret = TAKE_PTR(g);
    return 0;
}

static void wanted_dims(const WeightSpec *spec, const void *dims, int64_t dim[]) {
    for (int i = 0; i < spec->rank; i++)
        dim[i] = spec->dim[i] < 0 ? -(int64_t)spec->dim[i]
                                  : *(const int64_t *)((const char *)dims + spec->dim[i]);
}

static int check_tensor(const Weights *w, const WeightSpec *spec, const char *name, View found,
        const int64_t wanted[], Err *err) {
    const char *file = checkpoint_source(w->checkpoint, w->part, name);
    if (found.dtype != DTYPE_F32 && found.dtype != DTYPE_BF16 && found.dtype != DTYPE_F16)
        return err_set(err, -EBADMSG, "'%s': tensor '%s' has dtype %s, it must be F32, BF16 or F16",
                file, name, dtype_name(found.dtype));
    bool same = found.rank == spec->rank;
    for (int i = 0; same && i < spec->rank; i++)
        same = found.dim[i] == wanted[i];
    char a[VIEW_TEXT_SIZE], b[VIEW_TEXT_SIZE];
    if (!same)
        return err_set(err, -EBADMSG, "'%s': tensor '%s' is %s, the configuration wants %s", file,
                name, view_shape_text(found.rank, found.dim, a),
                view_shape_text(spec->rank, wanted, b));
    uint64_t n_nonfinite = checkpoint_n_nonfinite(w->checkpoint, w->part, name);
    if (n_nonfinite > 0)
        return err_set(err, -EDOM,
                "'%s': tensor '%s' has %" PRIu64
                " values that are NaN or infinite, all must be finite",
                file, name, n_nonfinite);
    return 0;
}

/* The tensor as model code sees it: one part of the first axis, in the kind's own extents. */
static View shape_for_use(const WeightSpec *spec, View v) {
    if (spec->n_parts > 0) {
        assert(v.dim[0] % spec->n_parts == 0);
        int64_t n = v.dim[0] / spec->n_parts;
        v = view_rows(v, spec->part * n, n);
    }
    if (spec->kind == WEIGHT_MATRIX) {
        int64_t rows = v.dim[0];
        return view_reshape(v, rows, view_count(v) / rows);
    }
    if (spec->kind == WEIGHT_VECTOR) {
        int64_t dim[VIEW_MAX_RANK];
        int rank = 0;
        for (int i = 0; i < v.rank; i++)
            if (v.dim[i] != 1)
                dim[rank++] = v.dim[i];
        if (rank == 0)
            dim[rank++] = 1;
        return view_reshape_to(v, rank, dim);
    }
    return v;
}

/* Planning streams and checks see the shape with the dtype that an import will give. */
static View shape_before_load(const Binding *b) {
    View v = b->host;
    if (b->kind == WEIGHT_VECTOR)
        v = view_make(v.data, DTYPE_F32, v.rank, v.dim);
    return v;
}

static int add_binding(WeightGroup *g, const Binding *b, Err *err) {
    if (g->n_bindings == g->room) {
        size_t room = g->room ? 2 * g->room : 32;
        Binding *bindings = reallocarray(g->bindings, room, sizeof(*bindings));
        if (!bindings)
            return err_set(err, -ENOMEM, "no memory for weights '%s'", g->name);
        g->bindings = bindings;
        g->room = room;
    }
    g->bindings[g->n_bindings] = *b;
    g->bindings[g->n_bindings].name = strdup(b->name);
    if (!g->bindings[g->n_bindings].name)
        return err_set(err, -ENOMEM, "no memory for weights '%s'", g->name);
    g->n_bindings++;
    *b->slot = shape_before_load(b);
    return 0;
}

/* By its name, or by its other one; an error names the first. */
static int find_tensor(const Weights *w, const WeightSpec *spec, const char *prefix, char *name,
        View *ret, Err *err) {
    int n = snprintf(name, MAX_NAME, "%s%s", prefix, spec->name);
    assert(n > 0 && n < MAX_NAME);
    int r = checkpoint_find(w->checkpoint, w->part, name, ret, err);
    if (r != -ENOENT || !spec->alias)
        return r;
    char alias[MAX_NAME];
    n = snprintf(alias, sizeof(alias), "%s%s", prefix, spec->alias);
    assert(n > 0 && n < MAX_NAME);
    if (checkpoint_find(w->checkpoint, w->part, alias, ret, NULL) < 0)
        return r;
    err_clear(err);
    (void)memcpy(name, alias, sizeof(alias));
    return 0;
}

int weights_bind(WeightGroup *g, const WeightSpec spec[], size_t n_specs, const char *prefix,
        void *object, const void *dims, Err *err) {
    assert(!g->ready);
    for (size_t i = 0; i < n_specs; i++) {
        char name[MAX_NAME];
        int64_t wanted[VIEW_MAX_RANK];
        View found;
        int r = find_tensor(g->weights, &spec[i], prefix, name, &found, err);
        if (r < 0)
            return r;
        wanted_dims(&spec[i], dims, wanted);
        r = check_tensor(g->weights, &spec[i], name, found, wanted, err);
        if (r < 0)
            return r;
        r = add_binding(g,
                &(Binding){
                        .name = name,
                        .slot = (View *)((char *)object + spec[i].offset),
                        .kind = spec[i].kind,
                        .host = shape_for_use(&spec[i], found),
                },
                err);
        if (r < 0)
            return r;
    }
    return 0;
}

static uint64_t binding_bytes(const Binding *b, Backend *backend) {
    return size_align(weight_bytes(backend, b->kind, b->host), WEIGHT_ALIGNMENT);
}

uint64_t weights_group_bytes(const WeightGroup *g, Backend *backend) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < g->n_bindings; i++)
        bytes += binding_bytes(&g->bindings[i], backend);
    return bytes;
}

uint64_t weights_bytes(const Weights *w, Backend *b) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < w->n_groups; i++)
        bytes += weights_group_bytes(w->groups[i], b);
    return bytes;
}

static int await_binding(const WeightGroup *g, const Binding *b, uint64_t timeout_usec, Err *err) {
    int r = checkpoint_wait(g->weights->checkpoint, b->host, timeout_usec, err);
    if (r < 0)
        return err_prefix(err, r, "%s", g->weights->part);
    if (r == CHECKPOINT_TIMEOUT)
        return err_set(err, -ETIMEDOUT,
                "tensor '%s' of %s did not arrive in memory within %" PRIu64 " s", b->name,
                g->weights->part, timeout_usec / 1000000);
    return 0;
}

int weights_await_bytes(const WeightGroup *g, uint64_t timeout_usec, Err *err) {
    int r = 0;
    for (size_t i = 0; i < g->n_bindings && r == 0; i++)
        r = await_binding(g, &g->bindings[i], timeout_usec, err);
    return r;
}

static bool is_loaded(WeightGroup *g) {
    (void)pthread_mutex_lock(&g->weights->lock);
    bool loaded = g->ready != NULL;
    (void)pthread_mutex_unlock(&g->weights->lock);
    return loaded;
}

void weights_visit_copied(
        const WeightGroup *g, Backend *b, void (*see)(void *context, View host), void *context) {
    for (size_t i = 0; i < g->n_bindings; i++)
        if (weight_bytes(b, g->bindings[i].kind, g->bindings[i].host) > 0)
            see(context, g->bindings[i].host);
}

static void will_need(void *checkpoint, View host) {
    checkpoint_will_need(checkpoint, host);
}

void weights_will_need(const WeightGroup *g, Backend *b) {
    weights_visit_copied(g, b, will_need, g->weights->checkpoint);
}

void weights_import_group(WeightGroup *g, Stream *s, char *storage) {
    Backend *backend = stream_backend(s);
    WeightImport some[WEIGHT_IMPORT_MOST];
    size_t n = 0;
    for (size_t i = 0; i < g->n_bindings; i++) {
        Binding *b = &g->bindings[i];
        uint64_t size = binding_bytes(b, backend);
        some[n] = (WeightImport){b->kind, b->host, size > 0 ? storage : NULL};
        b->loaded = weight_view(backend, b->kind, b->host, some[n].storage);
        storage += size;
        if (++n == WEIGHT_IMPORT_MOST || i == g->n_bindings - 1) {
            weight_import(s, some, n);
            n = 0;
        }
    }
}

static void set_ready(WeightGroup *g, Event *ready) {
    (void)pthread_mutex_lock(&g->weights->lock);
    g->ready = ready;
    (void)pthread_cond_broadcast(&g->weights->changed);
    (void)pthread_mutex_unlock(&g->weights->lock);
}

/* Shows the weights where they lie already; host bytes that are used in place must be there. */
static int place_views(WeightGroup *g, Backend *b, char *at, uint64_t timeout_usec, Err *err) {
    for (size_t i = 0; i < g->n_bindings; i++) {
        Binding *binding = &g->bindings[i];
        uint64_t size = binding_bytes(binding, b);
        int r = size > 0 ? 0 : await_binding(g, binding, timeout_usec, err);
        if (r < 0)
            return r;
        binding->loaded = weight_view(b, binding->kind, binding->host, size > 0 ? at : NULL);
        at += size;
    }
    return 0;
}

int weights_adopt_group(WeightGroup *g, Stream *s, Memory *m, uint64_t timeout_usec, Err *err) {
    Backend *b = stream_backend(s);
    const char *part = g->weights->part;
    uint64_t bytes = weights_group_bytes(g, b);
    if (is_loaded(g))
        return err_set(err, -EEXIST, "weights '%s' of %s are loaded already", g->name, part);
    if (memory_bytes(m) != bytes)
        return err_set(err, -EBADMSG, "weights '%s' of %s take %" PRIu64 " bytes, given were %zu",
                g->name, part, bytes, memory_bytes(m));
    Event *ready;
    int r = place_views(g, b, memory_data(m), timeout_usec, err);
    if (r == 0)
        r = event_new(b, &ready, err);
    if (r < 0)
        return r;
    g->memory = m;
    stream_record(s, ready);
    set_ready(g, ready);
    return 0;
}

Memory *weights_group_memory(const WeightGroup *g) {
    return g->memory;
}

int weights_load_group(WeightGroup *g, Stream *s, uint64_t timeout_usec, Err *err) {
    if (is_loaded(g))
        return 0;
    int r = weights_await_bytes(g, timeout_usec, err);
    if (r < 0)
        return r;
    Backend *backend = stream_backend(s);
    uint64_t bytes = weights_group_bytes(g, backend);
    Event *ready;
    r = event_new(backend, &ready, err);
    if (r == 0 && bytes > 0) {
        r = memory_new(backend, bytes, &g->memory, err);
        if (r < 0)
            event_free(ready);
    }
    if (r < 0)
        return err_prefix(err, r, "weights '%s' of %s", g->name, g->weights->part);

    weights_import_group(g, s, bytes > 0 ? memory_data(g->memory) : NULL);
    stream_record(s, ready);
    set_ready(g, ready);
    return 0;
}

int weights_load(Weights *w, Stream *s, uint64_t timeout_usec, Err *err) {
    for (size_t i = 0; i < w->n_groups; i++) {
        int r = weights_load_group(w->groups[i], s, timeout_usec, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static void set_expected(Weights *w, bool expected, int result) {
    (void)pthread_mutex_lock(&w->lock);
    w->expected = expected;
    w->result = result;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
}

void weights_expect(Weights *w) {
    set_expected(w, true, 0);
}

void weights_settle(Weights *w, int result) {
    set_expected(w, false, result);
}

void weights_drop_group(WeightGroup *g) {
    if (!g->ready)
        return;
    g->ready = event_free(g->ready);
    g->memory = memory_free(g->memory);
    g->in_place = false;
    for (size_t i = 0; i < g->n_bindings; i++)
        *g->bindings[i].slot = shape_before_load(&g->bindings[i]);
}

/* Waits for an expected group; negative errno when it will not come. */
static int await_group(WeightGroup *g) {
    Weights *w = g->weights;
    (void)pthread_mutex_lock(&w->lock);
    while (!g->ready && w->expected)
        (void)pthread_cond_wait(&w->changed, &w->lock);
    int r = g->ready ? 0 : w->result < 0 ? w->result : -ENODATA;
    (void)pthread_mutex_unlock(&w->lock);
    return r;
}

void weights_need(WeightGroup *g, Stream *s) {
    if (stream_is_planning(s) || stream_failure(s, NULL) < 0)
        return;
    bool streamed = weights_is_streamed(g);
    if (streamed)
        weights_fetch(g, s);
    int r = streamed ? 0 : await_group(g);
    if (r < 0) {
        stream_fail(s, r, "weights '%s' of %s are not loaded", g->name, g->weights->part);
        return;
    }
    stream_wait(s, g->ready);
    for (size_t i = 0; i < g->n_bindings && !g->in_place; i++)
        *g->bindings[i].slot = g->bindings[i].loaded;
    g->in_place = true;
}

const char *weights_part(const Weights *w) {
    return w->part;
}

size_t weights_n_groups(const Weights *w) {
    return w->n_groups;
}

WeightGroup *weights_group_at(const Weights *w, size_t i) {
    assert(i < w->n_groups);
    return w->groups[i];
}

const char *weights_group_name(const WeightGroup *g) {
    return g->name;
}

/* The first element that is NaN or infinite, or -1. */
static int64_t first_nonfinite(View v) {
    const uint32_t *f32 = v.data;
    const uint16_t *half = v.data;
    uint16_t exponent = v.dtype == DTYPE_BF16 ? 0x7f80 : 0x7c00;
    int64_t n = view_count(v);
    for (int64_t i = 0; i < n; i++)
        if (v.dtype == DTYPE_F32 ? (f32[i] & 0x7f800000) == 0x7f800000
                                 : (half[i] & exponent) == exponent)
            return i;
    return -1;
}

int weights_find_nonfinite(const Weights *w, Err *err) {
    for (size_t i = 0; i < w->n_groups; i++) {
        const WeightGroup *g = w->groups[i];
        for (size_t k = 0; k < g->n_bindings; k++) {
            int64_t at = first_nonfinite(g->bindings[k].host);
            if (at >= 0)
                return err_set(err, -EDOM,
                        "'%s': tensor '%s' has a NaN or an infinity at element %" PRId64
                        ", all must be finite",
                        checkpoint_source(w->checkpoint, w->part, g->bindings[k].name),
                        g->bindings[k].name, at);
        }
    }
    return 0;
}

bool weights_is_bound(const Weights *w, const char *name) {
    for (size_t i = 0; i < w->n_groups; i++)
        for (size_t k = 0; k < w->groups[i]->n_bindings; k++)
            if (str_eq(w->groups[i]->bindings[k].name, name))
                return true;
    return false;
}
