#include "model/weights-impl.h"

#include <errno.h>
#include <stdlib.h>

enum { N_SLOTS = 2 };

/* One of the two pieces of device memory. Its copy starts after `used`, which the computing stream
 * records when it has been given everything that read the piece before. */
typedef struct Slot {
    Memory *memory; /* NULL where the backend uses the host's bytes */
    Event *used, *ready;
    WeightGroup *holds; /* NULL: nothing yet */
} Slot;

typedef struct WeightsRing {
    size_t first, n;
    Stream *copy;
    Slot slot[N_SLOTS];
} WeightsRing;

static WeightGroup *group_in_ring(const Weights *w, size_t i) {
    return w->groups[w->ring->first + i % w->ring->n];
}

static uint64_t largest_group(const Weights *w, Backend *b, size_t first, size_t n) {
    uint64_t bytes = 0;
    for (size_t i = first; i < first + n; i++)
        bytes = MAX(bytes, weights_group_bytes(w->groups[i], b));
    return bytes;
}

uint64_t weights_stream_bytes(const Weights *w, Backend *b, size_t first, size_t n) {
    return N_SLOTS * largest_group(w, b, first, n);
}

static int ring_open(Weights *w, Backend *b, Err *err) {
    WeightsRing *ring = w->ring;
    uint64_t bytes = largest_group(w, b, ring->first, ring->n);
    int r = stream_new(b, 0, &ring->copy, err);
    for (int i = 0; i < N_SLOTS && r == 0; i++) {
        Slot *slot = &ring->slot[i];
        r = event_new(b, &slot->used, err);
        if (r == 0)
            r = event_new(b, &slot->ready, err);
        if (r == 0 && bytes > 0)
            r = memory_new(b, bytes, &slot->memory, err);
    }
    return r;
}

int weights_stream(
        Weights *w, Backend *b, size_t first, size_t n, uint64_t timeout_usec, Err *err) {
    assert(!w->ring && n >= 1 && first + n <= w->n_groups);
    for (size_t i = first; i < first + n; i++) {
        int r = weights_await_bytes(w->groups[i], timeout_usec, err);
        if (r < 0)
            return r;
        weights_drop_group(w->groups[i]);
    }
    w->ring = calloc(1, sizeof(*w->ring));
    if (!w->ring)
        return err_set(err, -ENOMEM, "no memory to stream the weights of %s", w->part);
    w->ring->first = first;
    w->ring->n = n;
    int r = ring_open(w, b, err);
    if (r < 0) {
        weights_stream_end(w);
        return err_prefix(err, r, "two layers of %s", w->part);
    }
    return 0;
}

bool weights_streams(const Weights *w) {
    return w->ring != NULL;
}

static void slot_clear(Slot *slot) {
    WeightGroup *g = slot->holds;
    if (!g)
        return;
    g->ready = NULL;
    g->in_place = false;
    slot->holds = NULL;
}

void weights_stream_end(Weights *w) {
    WeightsRing *ring = w->ring;
    if (!ring)
        return;
    if (ring->copy)
        (void)stream_finish(
                ring->copy, NULL); /* a copy may still be under way to the memory below */
    for (int i = 0; i < N_SLOTS; i++) {
        slot_clear(&ring->slot[i]);
        memory_free(ring->slot[i].memory);
        event_free(ring->slot[i].used);
        event_free(ring->slot[i].ready);
    }
    stream_free(ring->copy);
    free(ring);
    w->ring = NULL;
}

bool weights_is_streamed(const WeightGroup *g) {
    const WeightsRing *ring = g->weights->ring;
    for (size_t i = 0; ring && i < ring->n; i++)
        if (group_in_ring(g->weights, i) == g)
            return true;
    return false;
}

static Slot *slot_of(WeightsRing *ring, const WeightGroup *g) {
    for (int i = 0; i < N_SLOTS; i++)
        if (ring->slot[i].holds == g)
            return &ring->slot[i];
    return NULL;
}

/* Queues the copy of g to a slot, after all that s has been given so far. */
static void fill(WeightsRing *ring, Slot *slot, WeightGroup *g, Stream *s) {
    slot_clear(slot);
    stream_record(s, slot->used);
    stream_wait(ring->copy, slot->used);
    weights_import_group(g, ring->copy, slot->memory ? memory_data(slot->memory) : NULL);
    stream_record(ring->copy, slot->ready);
    slot->holds = g;
    g->ready = slot->ready;
}

void weights_fetch(WeightGroup *g, Stream *s) {
    WeightsRing *ring = g->weights->ring;
    Slot *slot = slot_of(ring, g);
    if (!slot) { /* the first of a pass, or after another order: nobody has sent for it */
        slot = &ring->slot[0];
        fill(ring, slot, g, s);
    }
    size_t i = 0;
    while (group_in_ring(g->weights, i) != g)
        i++;
    WeightGroup *next = group_in_ring(g->weights, i + 1);
    if (!slot_of(ring, next))
        fill(ring, slot == &ring->slot[0] ? &ring->slot[1] : &ring->slot[0], next, s);

    Err err = {0};
    int r = stream_failure(ring->copy, &err);
    if (r < 0)
        stream_fail(s, r, "weights of %s: %s", g->weights->part, err_text(&err));
}
