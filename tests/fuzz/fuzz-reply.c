#include "fuzz.h"

#include "remote/reply.h"

#include <assert.h>
#include <string.h>

/* The input is a server's head; what passes must begin where the body was wanted, or before it when
 * the whole file will do. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const ReplyWanted wanted[] = {
            {.first = 100, .last = 199, .total = 1000},
            {.first = 400, .last = 999, .total = 1000, .whole = true},
            {.last = REPLY_UNKNOWN, .total = REPLY_UNKNOWN, .whole = true},
    };
    Reply r;
    reply_begin(&r);
    for (const char *line = (const char *)data, *end = line + n; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        next = next ? next + 1 : end;
        reply_line(&r, line, (size_t)(next - line));
        line = next;
    }
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        uint64_t first;
        if (reply_check(&r, &wanted[i], &first, NULL) == 0)
            assert(first == wanted[i].first || (first == 0 && wanted[i].whole));
    }
    return 0;
}
