#include "pipeline/pinner.h"

#include "base/size.h"

#include <errno.h>
#include <stdlib.h>

/* Below 512 MiB the driver makes its list of pages without a lock that stops every process on the
 * card; 256 MiB took 6 ms to lock, which hides behind the copy of the window before. */
#define WINDOW_BYTES (256 * MIB)

struct Pinner {
    Backend *backend;
    const char *data;
    uint64_t bytes;
    size_t n_windows, n_refused;
    Err refusal; /* the first */
    enum { WINDOW_UNTRIED, WINDOW_PINNED, WINDOW_REFUSED } window[];
};

int pinner_new(Backend *b, const Checkpoint *c, Pinner **ret, Err *err) {
    *ret = NULL;
    if (checkpoint_tier(c) != CHECKPOINT_SEGMENT)
        return 0;
    const void *data;
    size_t bytes;
    assert(checkpoint_n_ranges(c) == 1);
    checkpoint_range(c, 0, &data, &bytes);
    size_t n = (bytes + WINDOW_BYTES - 1) / WINDOW_BYTES;
    Pinner *p = calloc(1, sizeof(*p) + n * sizeof(p->window[0]));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for a list of %zu windows", n);
    p->backend = b;
    p->data = data;
    p->bytes = bytes;
    p->n_windows = n;
    *ret = p;
    return 0;
}

static uint64_t window_bytes(const Pinner *p, size_t i) {
    return MIN(WINDOW_BYTES, p->bytes - i * WINDOW_BYTES);
}

Pinner *pinner_free(Pinner *p) {
    for (size_t i = 0; p && i < p->n_windows; i++)
        if (p->window[i] == WINDOW_PINNED)
            backend_unpin(p->backend, p->data + i * WINDOW_BYTES, window_bytes(p, i));
    free(p);
    return NULL;
}

void pinner_cover(Pinner *p, const void *data, size_t n) {
    if (!p || n == 0)
        return;
    size_t at = (size_t)((const char *)data - p->data);
    assert(at < p->bytes && n <= p->bytes - at);
    for (size_t i = at / WINDOW_BYTES; i <= (at + n - 1) / WINDOW_BYTES; i++) {
        if (p->window[i] != WINDOW_UNTRIED)
            continue;
        Err *why = p->n_refused == 0 ? &p->refusal : NULL;
        int r = backend_pin(p->backend, p->data + i * WINDOW_BYTES, window_bytes(p, i), why);
        p->window[i] = r == 0 ? WINDOW_PINNED : WINDOW_REFUSED;
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
