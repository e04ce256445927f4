/* preheat-warmup-reserve - preheat-warmup's dealings with the kernel about huge pages: what the
 * weights need, asking for it, giving it back. Logs what it did. */
#ifndef PREHEAT_WARMUP_RESERVE_H
#define PREHEAT_WARMUP_RESERVE_H

#include "store/manifest.h"

typedef struct Reserve {
    const char *segment; /* as configured: what it holds already is not asked for again */
    int64_t mode;        /* CONFIG_RESERVE_* */
    const char *note;    /* where to write down what was changed; NULL: nowhere */
} Reserve;

/* reserve_pages - asks for the pages that the model needs; getting fewer is told, and no failure.
 * Needs root. Returns 0, also in a container that may not; negative errno. */
int reserve_pages(const Manifest *m, const Reserve *how, Err *err);

/* reserve_take_back - as the note says. Needs no configuration: what was taken is given back
 * whatever became of that. Returns 0; the negative results of reservation_take_back(). */
int reserve_take_back(const char *note, Err *err);

/* reserve_print - what the model needs and the machine has, on standard output. */
int reserve_print(const Manifest *m, Err *err);

#endif
