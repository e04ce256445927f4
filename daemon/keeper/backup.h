/* backup - second copies of the keeper's descriptors, in systemd's store for its own unit.
 *
 * Below 254 that store outlives a crash and a restart of the unit, but not its end: not enough for
 * preheatd, which ends when it is idle, but all that the keeper needs to lose nothing when it is
 * killed or replaced. systemd's own library would more than double the keeper's memory, hence the
 * few datagrams here (sd_notify(3)). One thread. */
#ifndef PREHEAT_KEEPER_BACKUP_H
#define PREHEAT_KEEPER_BACKUP_H

#include "keeper/wire.h"

typedef struct Backup {
    int socket; /* owned; -1: nobody keeps copies */
} Backup;

/* backup_open - address: $NOTIFY_SOCKET, or NULL. Without one, or where it cannot be used, nothing
 * is copied: the keeper serves the same. */
void backup_open(Backup *b, const char *address);
void backup_close(Backup *b);

void backup_put(const Backup *b, const char name[static WIRE_NAME_SIZE], int fd);
void backup_remove(const Backup *b, const char name[static WIRE_NAME_SIZE]);

/* backup_settle - until systemd has closed what was removed. Returns 0, also without a backup;
 * -ETIMEDOUT; negative errno. */
int backup_settle(const Backup *b, uint64_t timeout_usec);

#endif
