/* request-canonical - a request as one JSON text: to keep it, and to know the same one again. */
#ifndef PREHEAT_REQUEST_REQUEST_CANONICAL_H
#define PREHEAT_REQUEST_REQUEST_CANONICAL_H

#include "base/digest.h"
#include "request/request.h"

/* request_to_json - canonical: every effective value, keys sorted, no white space. The image is
 * there as its size and digest; `degrade` has been decided when a request is kept. NULL when out of
 * memory; the caller frees it. */
char *request_to_json(const Request *r);

/* request_from_json - what request_to_json() wrote, without the image's bytes: image stays NULL
 * and *ret_image tells the digest that it must have (image_bytes is set).
 *
 * Returns 0; -EBADMSG; -ENOMEM. */
int request_from_json(const char *text, Request *r, Digest *ret_image, Err *err);

/* request_identity - equal for requests that must give the same video: all that shapes the frames,
 * not priority and n. Returns 0 or -ENOMEM. */
int request_identity(const Request *r, Digest *ret);

#endif
