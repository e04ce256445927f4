/* fdstore - descriptors that systemd keeps for the service's next process, by name.
 *
 * They come back beside the sockets (listen.h). There only where the unit has
 * FileDescriptorStoreMax= and systemd is new enough to keep them when the service stops (254, which
 * sets $FDSTORE). Any thread. */
#ifndef PREHEAT_SERVICE_FDSTORE_H
#define PREHEAT_SERVICE_FDSTORE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* fdstore_room - how many descriptors may be kept at all; 0: none. */
size_t fdstore_room(void);

/* fdstore_put - hands over a copy, which systemd does not watch; fd stays the caller's.
 *
 * That it was sent is all that can be known. Returns 0; -ENOTCONN without $NOTIFY_SOCKET; negative
 * errno of sending. */
int fdstore_put(const char *name, int fd, Err *err);

/* fdstore_remove - forgets every descriptor of that name; none is fine. */
void fdstore_remove(const char *name);

/* fdstore_settle - until systemd has done all of the above, that is, until what was removed is
 * closed there. Returns 0; -ETIMEDOUT; -ENOTCONN. */
int fdstore_settle(uint64_t timeout_usec, Err *err);

#endif
