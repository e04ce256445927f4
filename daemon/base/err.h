/* err - a negative errno plus one sentence that names the object, the value found and the value
 * wanted.
 *
 * The function that knows more than the errno takes `Err *err` last and writes the sentence;
 * callers only prepend where they were, at room boundaries. Lives in the caller's frame, never
 * allocates (it must be able to report ENOMEM). Every function here takes a NULL err. One owner, no
 * locking. */
#ifndef PREHEAT_BASE_ERR_H
#define PREHEAT_BASE_ERR_H

#include "base/macro.h"

typedef struct Err {
    int code; /* negative errno; 0 while unset */
    char text[500];
} Err;

/* err_set - records the first failure and returns its code.
 *
 *   code  negative errno, asserted; err must not hold a failure already, asserted
 *
 * A sentence that does not fit ends in "...". Returns code. */
int err_set(Err *err, int code, const char *fmt, ...) _printf_(3, 4);

/* err_prefix - puts "prefix: " before the sentence; returns code unchanged. An err without a
 * sentence gets the errno's own. */
int err_prefix(Err *err, int code, const char *fmt, ...) _printf_(3, 4);

/* err_clear - forgets a failure that was dealt with. */
void err_clear(Err *err);

/* err_text - the sentence, or the errno's text where there is none; never NULL. */
const char *err_text(const Err *err);

#endif
