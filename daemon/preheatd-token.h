/* preheatd-token - what clients on TCP must send, as systemd hands it over: the credential
 * preheat.api-token. */
#ifndef PREHEAT_PREHEATD_TOKEN_H
#define PREHEAT_PREHEATD_TOKEN_H

#include "base/err.h"

/* token_read - the first line of $CREDENTIALS_DIRECTORY/preheat.api-token; the caller frees it.
 *
 * Returns 0, *ret being untouched where there is no such file; -EINVAL for a line that is empty or
 * of anything but printable ASCII; negative errno of reading. */
int token_read(char **ret, Err *err);

#endif
