/* note - the card that parked weights lie on, written down for who asks the driver about it while
 * no daemon runs: systemd shows nobody the set's head. */
#ifndef PREHEAT_PARK_NOTE_H
#define PREHEAT_PARK_NOTE_H

#include "base/err.h"

#include <stdint.h>

/* "GPU-" and a UUID as the NVIDIA driver's programs write it. */
enum { NOTE_CARD_SIZE = 41 };

/* note_write - into the state directory; a UUID of zeros (the CPU) makes a note of no card. */
int note_write(const char *state_dir, const uint8_t uuid[static 16], Err *err);

/* note_read - "" for no card. Returns 0; -ENOENT where nothing was noted; -EBADMSG. */
int note_read(const char *state_dir, char ret[static NOTE_CARD_SIZE], Err *err);

#endif
