/* reply - what the head of an HTTP answer says about the bytes behind it.
 *
 * Fed line by line as they come from a stranger; keeps what matters, in fixed room. */
#ifndef PREHEAT_REMOTE_REPLY_H
#define PREHEAT_REMOTE_REPLY_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define REPLY_UNKNOWN UINT64_MAX

typedef struct Reply {
    int status;             /* 0: none yet */
    int n_ranges;           /* Content-Range lines */
    bool range_bad;         /* one that could not be read */
    uint64_t first, last;   /* REPLY_UNKNOWN where the range is '*' (416) */
    uint64_t total;         /* REPLY_UNKNOWN where it is '*' */
    uint64_t length;        /* Content-Length; REPLY_UNKNOWN */
    char range_text[64];    /* as sent, for sentences; may be cut */
    char encoding_text[32]; /* Content-Encoding other than identity, else "" */
} Reply;

/* reply_begin - before the first line. */
void reply_begin(Reply *r);

/* reply_line - one line, its end included or not. A status line begins anew: after a redirect the
 * last answer counts. */
void reply_line(Reply *r, const char *line, size_t n);

/* Which bytes were asked for. */
typedef struct ReplyWanted {
    uint64_t first, last; /* of the file; last REPLY_UNKNOWN: everything there is */
    uint64_t total;       /* bytes of the file; REPLY_UNKNOWN */
    bool whole;           /* an answer with the whole file will do, too */
} ReplyWanted;

/* reply_check - the body holds bytes that were asked for.
 *
 *   ret_first  the file's byte with which the body begins
 *
 * Returns 0; -EOPNOTSUPP: the server sends the whole file although a part was asked for; -ESTALE:
 * the file has another size; -ENOENT, -EACCES; -EAGAIN: a status that may pass (408, 429, 500, 502,
 * 503, 504); -EBADMSG: a Content-Range that does not fit; -EPROTO: any other status. */
int reply_check(const Reply *r, const ReplyWanted *w, uint64_t *ret_first, Err *err);

#endif
