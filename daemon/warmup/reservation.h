/* reservation - what was asked of the kernel for the weights, noted so that it can be taken back.
 *
 * The note is a small file that must live as long as the setting does, below /run. */
#ifndef PREHEAT_WARMUP_RESERVATION_H
#define PREHEAT_WARMUP_RESERVATION_H

#include "warmup/hugepages.h"

/* The kernel's setting for `mode`, before and after hugepages_reserve(). */
typedef struct Reservation {
    HugePagesMode mode;
    uint64_t before, after;
} Reservation;

/* reservation_setting - the counter that a mode changes: surplus pages allowed, or the pool without
 * the surplus in it. */
uint64_t reservation_setting(HugePagesMode mode, const HugePages *h);

/* reservation_save - writes the note; nothing is written where nothing was changed. What a note
 * of ours said to have been before stays so. Returns 0 or negative errno. */
int reservation_save(const char *path, const Reservation *r, Err *err);

/* reservation_take_back - sets the kernel's setting to what it was before, and removes the note.
 * Pages of the pool that are in use become surplus: the kernel takes them when they are free.
 *
 *   sysfs  as in hugepages.h
 *   ret    what the note said
 *
 * Returns 0; RESERVATION_NONE without a note; RESERVATION_CHANGED when somebody else has changed
 * the setting since, which is left as it is; -EBADMSG for a note that cannot be read; negative
 * errno of writing. */
enum { RESERVATION_NONE = 1, RESERVATION_CHANGED = 2 };
int reservation_take_back(const char *sysfs, const char *path, Reservation *ret, Err *err);

#endif
