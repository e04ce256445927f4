/* location - where a source is, and the address of a file below it.
 *
 *   http://HOST/PATH, https://HOST/PATH   the address as it is, PATH percent-encoded by its writer
 *   s3://BUCKET/PREFIX                    ENDPOINT/BUCKET/PREFIX ("path style", which every store
 *                                         of this interface answers)
 *
 * One owner; immutable once parsed. */
#ifndef PREHEAT_REMOTE_LOCATION_H
#define PREHEAT_REMOTE_LOCATION_H

#include "base/err.h"

#include <stdbool.h>

typedef struct Location {
    char *base;    /* address without a '/' at its end */
    bool s3;       /* a bucket: requests are signed where there is a key */
    bool secure;   /* https */
    bool loopback; /* this machine */
} Location;

/* location_parse - checks and takes apart.
 *
 *   endpoint  of the object store, http:// or https://; "": that of AWS for the region
 *
 * Returns 0; -EINVAL with what is wrong: another protocol, a user or a query in the address, no
 * host, no bucket. The caller frees *ret with location_done(). */
int location_parse(
        const char *source, const char *endpoint, const char *region, Location *ret, Err *err);
void location_done(Location *l);

/* location_address - of the file `path` below it, percent-encoded, on the heap; NULL when out of
 * memory. */
char *location_address(const Location *l, const char *path);

#endif
