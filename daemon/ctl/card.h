/* card - free memory of a GPU, asked from the NVIDIA driver without a context on the card.
 *
 * Through NVML, which comes with the driver and is loaded by name: nothing is linked to it. */
#ifndef PREHEAT_CTL_CARD_H
#define PREHEAT_CTL_CARD_H

#include "base/err.h"

#include <stdint.h>

#define CARD_LIBRARY "libnvidia-ml.so.1"

/* card_free - bytes that a program could still get.
 *
 *   library  CARD_LIBRARY, or a path
 *   uuid     "GPU-..."; "" where it is not known: then the card of this index in the order of PCI
 *            addresses, which is CUDA's only where the cards are alike
 *
 * Returns 0; -ENOSYS where the library is not there or lacks a function; -ENODEV where the driver
 * knows no such card or does not answer. */
int card_free(const char *library, const char *uuid, unsigned index, uint64_t *ret_bytes, Err *err);

#endif
