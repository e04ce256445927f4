/* configured - the model that the configuration names, as far as it is on this machine. */
#ifndef PREHEAT_CONFIGURED_H
#define PREHEAT_CONFIGURED_H

#include "config/config.h"
#include "store/manifest.h"
#include "store/origin.h"

/* configured_manifest - of [model] source where there is one, as it was fetched last; else of
 * [model] path, with the digests that were kept when it was added or warmed up, if they are still
 * true.
 *
 * Returns 0; -ENOENT, -ESTALE: nothing was fetched yet; else as manifest_open_kept(). */
int configured_manifest(const Config *c, Manifest **ret, Err *err);

/* configured_origin - what is kept of [model] source. ret borrows from the configuration and from
 * *ret_dir, which is the caller's. Returns 0 or -ENOMEM. */
int configured_origin(const Config *c, Origin *ret, char **ret_dir, Err *err);

/* configured_where - for sentences: [model] source, else path; "" when there is no model. */
const char *configured_where(const Config *c);

#endif
