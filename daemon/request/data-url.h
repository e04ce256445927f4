/* data-url - a picture inside a text: data:image/png;base64,... */
#ifndef PREHEAT_REQUEST_DATA_URL_H
#define PREHEAT_REQUEST_DATA_URL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* data_url_decode - the bytes of a base64 data URL with a media type of image/.
 *
 * Standard alphabet, padding required, no white space. Returns 0; -EINVAL; -EFBIG beyond limit,
 * told before anything is decoded; -ENOMEM. The caller frees *ret_data. */
int data_url_decode(const char *url, size_t limit, void **ret_data, size_t *ret_size, Err *err);

/* request_image_kind - "PNG", "JPEG" or "WebP" by the first bytes, NULL for anything else. The
 * declared type of an upload is not asked. */
const char *request_image_kind(const void *data, size_t n);

#endif
