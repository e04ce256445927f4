/* multipart - a multipart/form-data body, read piece by piece as it arrives, into named parts.
 *
 * Never holds more than the limits allow, and refuses as soon as they are passed. One owner. */
#ifndef PREHEAT_REQUEST_MULTIPART_H
#define PREHEAT_REQUEST_MULTIPART_H

#include "base/err.h"
#include "request/request-json.h"

typedef struct Multipart Multipart;

typedef struct MultipartLimits {
    size_t max_parts;
    size_t max_text_bytes; /* of a part without a file name */
    size_t max_file_bytes; /* of a part with one */
} MultipartLimits;

/* multipart_new - content_type is the request's header, with the boundary.
 *
 * Returns 0; -EINVAL; -ENOMEM. */
int multipart_new(
        const char *content_type, const MultipartLimits *limits, Multipart **ret, Err *err);
Multipart *multipart_free(Multipart *m);

/* multipart_feed - the next n bytes of the body; not called again after a failure.
 *
 * Returns 0; -EINVAL; -EFBIG naming part and limit; -ENOMEM. */
int multipart_feed(Multipart *m, const void *data, size_t n, Err *err);

/* multipart_finish - the body has ended. -EINVAL when it ended too early. */
int multipart_finish(Multipart *m, Err *err);

/* multipart_parts - what arrived, borrowed until multipart_free(); after multipart_finish(). */
const RequestPart *multipart_parts(const Multipart *m, size_t *ret_n);

#endif
