/* range - the bytes of a file that a client asks for. */
#ifndef PREHEAT_HTTP_RANGE_H
#define PREHEAT_HTTP_RANGE_H

#include <stdint.h>

#define HTTP_RANGE_WHOLE 1

/* http_range_parse - one range of a file of `size` bytes.
 *
 * Returns 0: *ret_first and *ret_n lie in the file; HTTP_RANGE_WHOLE for a header that is to be
 * ignored (several ranges, another unit, not a range); -ERANGE when nothing of it is there. */
int http_range_parse(const char *header, uint64_t size, uint64_t *ret_first, uint64_t *ret_n);

#endif
