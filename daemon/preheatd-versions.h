/* preheatd-versions - this preheatd held against the lock file that was made when it was built. */
#ifndef PREHEAT_PREHEATD_VERSIONS_H
#define PREHEAT_PREHEATD_VERSIONS_H

#include "config/config.h"
#include "versions/version-lock.h"

/* versions_found - what is here: program, formats, libraries, driver, the engine's file. */
int versions_found(const char *module, VersionLock *ret, Err *err);

/* versions_lock - what belongs into the lock file; module NULL: built without one. */
int versions_lock(const char *module, VersionLock *ret, Err *err);

/* versions_check - found against the file that the configuration names. Returns 0; -ENOENT when
 * there is no such file; -EPROTO, the sentence naming both sides of each difference. */
int versions_check(const Config *config, Err *err);

/* versions_print, versions_print_lock - what is found, or belongs into the lock file, to standard
 * output; return the exit status. */
int versions_print(const char *config_path);
int versions_print_lock(const char *module);

#endif
