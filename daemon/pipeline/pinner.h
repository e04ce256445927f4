/* pinner - page-locks a checkpoint's bytes window by window, just before they travel.
 *
 * Locking a window and copying the one before overlap; locking all at once would make the first
 * copy wait for the last page. Used by the thread that loads. */
#ifndef PREHEAT_PIPELINE_PINNER_H
#define PREHEAT_PIPELINE_PINNER_H

#include "backend/backend.h"
#include "store/checkpoint.h"

typedef struct Pinner Pinner;

/* pinner_new - for bytes in a segment; files' pages are not locked, *ret is NULL then, which every
 * function takes. */
int pinner_new(Backend *b, const Checkpoint *c, Pinner **ret, Err *err);

/* pinner_free - unlocks; no stream may still read. */
Pinner *pinner_free(Pinner *p);

/* pinner_cover - locks the windows under the n bytes unless they are. A window that cannot be
 * locked is copied from all the same, only slower. */
void pinner_cover(Pinner *p, const void *data, size_t n);

/* pinner_remark - says in err how many windows could not be locked, and why; nothing when all
 * could. */
void pinner_remark(const Pinner *p, Err *err);

#endif
