/* park - the head of a set of parked weights: whose they are, hence who may use them.
 *
 * A set is one sealed memory file with this head and one descriptor of device memory for each piece
 * (memory_export()). The head is handed over last: a set without one was never complete. Whoever
 * finds a set computes with it only where its own head would say the same. */
#ifndef PREHEAT_PARK_PARK_H
#define PREHEAT_PARK_PARK_H

#include "base/digest.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { PARK_MAX_PIECES = 250 };

typedef struct ParkHead {
    char backend[16];   /* its name, NUL-terminated */
    uint8_t device[16]; /* BackendInfo.uuid */
    Digest model;       /* of the manifest */
    Digest build;       /* of the programs that packed the weights: the layout is theirs alone */
    char residency[28]; /* which weights stay, as pipeline_residency() says; NUL-terminated */
    uint32_t n_pieces;
    uint64_t bytes[PARK_MAX_PIECES]; /* zero beyond n_pieces */
} ParkHead;

/* park_head_write - a new sealed memory file; the caller's, close-on-exec. */
int park_head_write(const ParkHead *head, int *ret_fd, Err *err);

/* park_head_read - from a descriptor that anyone may have handed over.
 *
 * Returns 0; -EBADMSG for what is not a whole, sealed head of this format. */
int park_head_read(int fd, ParkHead *ret, Err *err);

/* park_head_compare - device, model, build: what can be told before the model is opened.
 *
 * Returns 0; -ESTALE, the sentence naming what differs, found and wanted. */
int park_head_compare(const ParkHead *found, const ParkHead *wanted, Err *err);

/* park_head_compare_pieces - residency, number and sizes. Returns as park_head_compare(). */
int park_head_compare_pieces(const ParkHead *found, const ParkHead *wanted, Err *err);

#endif
