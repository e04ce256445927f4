/* probe - what doctor measures and asks of this machine, changing nothing.
 *
 * Each adds its findings; what cannot be learnt is a finding, too. */
#ifndef PREHEAT_CTL_PROBE_H
#define PREHEAT_CTL_PROBE_H

#include "ctl/findings.h"

#include <stdbool.h>
#include <stdint.h>

/* probe_memory - whether the weights find room beside the rest of the machine.
 *
 *   meminfo  /proc/meminfo but for tests
 *   wanted   bytes still to be put into memory, 0: they are there */
void probe_memory(Findings *f, const char *meminfo, uint64_t wanted, uint64_t floor_bytes);

/* probe_huge_pages - of hugepages_json(); held: pages that the segment has already. */
void probe_huge_pages(Findings *f, const json_t *pages, uint64_t n_held);

/* probe_disk - reads up to 64 MiB of a file past the page cache, for a second at most.
 *
 *   total_bytes  of the model, for the time that a start from disk would take */
void probe_disk(Findings *f, const char *path, uint64_t total_bytes);

void probe_memlock(Findings *f);

/* probe_groups - whether the caller may use the daemon's socket. */
void probe_groups(Findings *f, const char *group);

/* probe_ports - whether somebody else has taken the addresses, separated by blanks.
 *
 *   listening  preheat's own sockets are up, as systemd says */
void probe_ports(Findings *f, const char *addresses, bool listening);

/* probe_units - of units_states(). */
void probe_units(Findings *f, const json_t *units);

/* probe_media - the encoder's program. */
void probe_media(Findings *f, const char *program);

/* probe_card - device files, driver persistence, free device memory.
 *
 *   dev     "/dev" but for tests
 *   wanted  requests fail without a card */
void probe_card(Findings *f, const char *dev, bool wanted);

/* probe_open_as - whether a user may read a file, asked by a child that becomes this user; for
 * root.
 *
 * Returns 0, also where there is no such user; negative errno, of open() mostly. */
int probe_open_as(const char *user, const char *path);

/* probe_run - what a program prints, at most limit bytes, within ten seconds; the caller frees.
 * -ECHILD with its status in the sentence when it fails. */
int probe_run(const char *const *argv, size_t limit, char **ret, Err *err);

#endif
