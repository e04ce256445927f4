#include "pipeline/pinner.h"

#include "base/size.h"

#include <errno.h>
#include <stdlib.h>

/* Below 512 MiB the driver makes its list of pages without a lock that stops every process on the
 * card; 256 MiB took 6 ms to lock, which hides behind the copy of the window before. */
#define WINDOW_BYTES (256 * MIB)

typedef struct Window {
    const char *data;
    size_t bytes;
    enum { WINDOW_UNTRIED, WINDOW_PINNED, WINDOW_REFUSED } state;
} Window;

/* Windows are ascending and never straddle two ranges: those may be of different pages, which the
 * driver does not lock in one piece. */
struct Pinner {
    Backend *backend;
    size_t n_windows, n_refused;
    Err refusal; /* the first */
    Window window[];
};

static size_t cut(const Checkpoint *c, Window *ret) {
    size_t n = 0;
    for (size_t i = 0; i < checkpoint_n_ranges(c); i++) {
        const void *data;
        size_t bytes;
        checkpoint_range(c, i, &data, &bytes);
        for (size_t at = 0; at < bytes; at += WINDOW_BYTES, n++)
            if (ret)
                ret[n] = (Window){
                        .data = (const char *)data + at, .bytes = MIN(WINDOW_BYTES, bytes - at)};
    }
    return n;
}

int pinner_new(Backend *b, const Checkpoint *c, Pinner **ret, Err *err) {
    *ret = NULL;
    if (checkpoint_tier(c) != CHECKPOINT_SEGMENT)
        return 0;
    size_t n = cut(c, NULL);
    Pinner *p = calloc(1, sizeof(*p) + n * sizeof(p->window[0]));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for a list of %zu windows", n);
    p->backend = b;
    p->n_windows = cut(c, p->window);
    *ret = p;
    return 0;
}

Pinner *pinner_free(Pinner *p) {
    for (size_t i = 0; p && i < p->n_windows; i++)
        if (p->window[i].state == WINDOW_PINNED)
            backend_unpin(p->backend, p->window[i].data, p->window[i].bytes);
    free(p);
    return NULL;
}

/* The first window that ends behind data. */
static size_t window_at(const Pinner *p, const char *data) {
    size_t low = 0, high = p->n_windows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->window[middle].data + p->window[middle].bytes <= data)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void pinner_cover(Pinner *p, const void *data, size_t n) {
    const char *end = (const char *)data + n;
    if (!p || n == 0)
        return;
    size_t i = window_at(p, data);
    assert(i < p->n_windows && p->window[i].data <= (const char *)data &&
            end <= p->window[p->n_windows - 1].data + p->window[p->n_windows - 1].bytes);
    for (; i < p->n_windows && p->window[i].data < end; i++) {
        Window *w = &p->window[i];
        if (w->state != WINDOW_UNTRIED)
            continue;
        Err *why = p->n_refused == 0 ? &p->refusal : NULL;
        int r = backend_pin(p->backend, w->data, w->bytes, why);
        w->state = r == 0 ? WINDOW_PINNED : WINDOW_REFUSED;
        p->n_refused += r < 0;
    }
}

void pinner_remark(const Pinner *p, Err *err) {
    if (p && p->n_refused > 0)
        (void)err_set(err, p->refusal.code ? p->refusal.code : -ENOMEM,
                "%zu of %zu pieces of the segment are copied without locked pages, which is "
                "slower: "
                "%s",
                p->n_refused, p->n_windows, err_text(&p->refusal));
}
