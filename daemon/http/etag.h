/* etag - what a client says it knows of a file: If-Match and If-None-Match. */
#ifndef PREHEAT_HTTP_ETAG_H
#define PREHEAT_HTTP_ETAG_H

#include <stdbool.h>

/* http_etag_listed - whether a header's list of entity tags, or its "*", names this one.
 *
 *   etag  with its quotes, strong
 *   weak  W/"..." counts as well: for If-None-Match
 *
 * What is no list names what stands before the mistake. Source: RFC 9110, 8.8.3 and 13.1. */
bool http_etag_listed(const char *list, const char *etag, bool weak);

#endif
