/* pth - a file of torch.save(): a zip archive of one pickle and the tensors' bytes.
 *
 *   NAME/data.pkl     which tensors there are (pickle.h), first in the file
 *   NAME/byteorder    "little", where there is one
 *   NAME/data/KEY     one storage, its bytes as they are in memory
 *   NAME/version ...  not looked at
 *
 * NAME is any. Tensors may share bytes only as a whole. The head, by whose digest a change is
 * noticed, is all up to the end of data.pkl. */
#ifndef PREHEAT_STORE_PTH_H
#define PREHEAT_STORE_PTH_H

#include "store/pickle.h"
#include "store/weight-entry.h"

typedef struct Pth {
    Pickle pickle;
    WeightEntry *entry; /* ordered by offset */
    size_t n_entries;
    uint64_t head_bytes;
} Pth;

/* pth_read - reads tables and pickle, no tensors.
 *
 * Returns 0; -EBADMSG naming entry or tensor and what is wrong; negative errno of reading; -ENOMEM.
 * The caller frees *ret with pth_done(). */
int pth_read(int fd, uint64_t file_bytes, Pth *ret, Err *err);

void pth_done(Pth *p);

#endif
