/* weights - finding a model's segment: what systemd opened, or one of the places in turn. */
#ifndef PREHEAT_STORE_WEIGHTS_H
#define PREHEAT_STORE_WEIGHTS_H

#include "base/err.h"

/* weights_open - the descriptor of a segment's first file for checkpoint_open_segment().
 *
 *   inherited_fd  what systemd opened as "weights", or -1: then the places are tried, without
 *                 following a symbolic link
 *   path          the configured one
 *
 * Whichever it is must pass segment_check(). Returns a descriptor of the caller's (inherited_fd
 * itself if that was used) or negative errno; -ENOENT when no place has one. A further file whose
 * first is gone does not count. */
int weights_open(int inherited_fd, const char *path, Err *err);

#endif
