#include "remote/reply.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

void reply_begin(Reply *r) {
    *r = (Reply){.first = REPLY_UNKNOWN,
            .last = REPLY_UNKNOWN,
            .total = REPLY_UNKNOWN,
            .length = REPLY_UNKNOWN};
}

/* Digits up to something else; false without any, or beyond 2^63. */
static bool take_number(const char **at, uint64_t *ret) {
    const char *c = *at;
    uint64_t n = 0;
    for (; *c >= '0' && *c <= '9'; c++) {
        if (n > (UINT64_MAX >> 1) / 10 - 1)
            return false;
        n = n * 10 + (uint64_t)(*c - '0');
    }
    if (c == *at)
        return false;
    *at = c;
    *ret = n;
    return true;
}

static bool take_char(const char **at, char wanted) {
    if (**at != wanted)
        return false;
    ++*at;
    return true;
}

/* "bytes 0-99/200", "bytes 0-99/STAR", "bytes STAR/200" */
static bool parse_range(const char *text, Reply *r) {
    if (strncasecmp(text, "bytes ", 6) != 0)
        return false;
    text += 6;
    text += strspn(text, " ");
    if (!take_char(&text, '*') && !(take_number(&text, &r->first) && take_char(&text, '-') &&
                                          take_number(&text, &r->last) && r->last >= r->first))
        return false;
    if (!take_char(&text, '/'))
        return false;
    if (!take_char(&text, '*') && !take_number(&text, &r->total))
        return false;
    return *text == '\0' &&
           (r->total == REPLY_UNKNOWN || r->last == REPLY_UNKNOWN || r->last < r->total);
}

static bool is_named(const char *line, const char *name, const char **ret_value) {
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *ret_value = line + n + 1 + strspn(line + n + 1, " \t");
    return true;
}

static void take_status(Reply *r, const char *line) {
    const char *digits = line + strcspn(line, " ");
    uint64_t status = 0;
    reply_begin(r);
    digits += strspn(digits, " ");
    if (take_number(&digits, &status) && status >= 100 && status <= 999)
        r->status = (int)status;
}

void reply_line(Reply *r, const char *data, size_t n) {
    char line[128]; /* a longer line's beginning is all that is looked at */
    const char *value;
    uint64_t length;
    n = MIN(n, sizeof(line) - 1);
    memcpy(line, data, n);
    line[n] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    for (size_t end = strlen(line); end > 0 && strchr(" \t", line[end - 1]);)
        line[--end] = '\0';
    if (str_starts(line, "HTTP/")) {
        take_status(r, line);
    } else if (is_named(line, "Content-Range", &value)) {
        (void)snprintf(r->range_text, sizeof(r->range_text), "%.60s", value);
        r->n_ranges++;
        r->range_bad = !parse_range(value, r) || r->range_bad;
    } else if (is_named(line, "Content-Length", &value)) {
        if (take_number(&value, &length) && !*value)
            r->length = length;
    } else if (is_named(line, "Content-Encoding", &value)) {
        (void)snprintf(r->encoding_text, sizeof(r->encoding_text), "%.30s",
                strcasecmp(value, "identity") == 0 ? "" : value);
    }
}

static int check_size(uint64_t found, const ReplyWanted *w, Err *err) {
    if (found == REPLY_UNKNOWN || w->total == REPLY_UNKNOWN || found == w->total)
        return 0;
    return err_set(err, -ESTALE, "it has %ju bytes, the manifest says %ju", (uintmax_t)found,
            (uintmax_t)w->total);
}

static int check_part(const Reply *r, const ReplyWanted *w, uint64_t *ret_first, Err *err) {
    if (r->n_ranges != 1 || r->range_bad || r->first == REPLY_UNKNOWN)
        return err_set(err, -EBADMSG,
                "the answer has the Content-Range '%s', wanted was 'bytes %ju-%ju/%ju'",
                r->range_text, (uintmax_t)w->first, (uintmax_t)w->last, (uintmax_t)w->total);
    if (w->last == REPLY_UNKNOWN)
        return err_set(err, -EBADMSG, "the answer is a part, all of the file was asked for");
    int size = check_size(r->total, w, err);
    if (size < 0)
        return size;
    if (r->first != w->first || r->last > w->last)
        return err_set(err, -EBADMSG,
                "the answer has the Content-Range '%s', bytes %ju to %ju were asked for",
                r->range_text, (uintmax_t)w->first, (uintmax_t)w->last);
    *ret_first = r->first;
    return 0;
}

static int check_whole(const Reply *r, const ReplyWanted *w, uint64_t *ret_first, Err *err) {
    if (!w->whole)
        return err_set(err, -EOPNOTSUPP,
                "the server ignores ranges: it answered 200 when asked for bytes %ju to %ju",
                (uintmax_t)w->first, (uintmax_t)w->last);
    int size = check_size(r->length, w, err);
    if (size == 0)
        *ret_first = 0;
    return size;
}

static int check_status(const Reply *r, const ReplyWanted *w, Err *err) {
    switch (r->status) {
    case 416:
        if (r->n_ranges == 1 && !r->range_bad && check_size(r->total, w, err) < 0)
            return -ESTALE;
        return err_set(err, -ESTALE, "it has no bytes %ju to %ju (HTTP 416)", (uintmax_t)w->first,
                (uintmax_t)w->last);
    case 401:
    case 403:
        return err_set(err, -EACCES, "access is refused (HTTP %d)", r->status);
    case 404:
    case 410:
        return err_set(err, -ENOENT, "there is no such file (HTTP %d)", r->status);
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return err_set(err, -EPROTO,
                "the answer leads elsewhere (HTTP %d), which is not followed here: are endpoint "
                "and region right?",
                r->status);
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return err_set(err, -EAGAIN, "the server cannot answer now (HTTP %d)", r->status);
    default:
        return err_set(err, -EPROTO, "the answer has the HTTP status %d, wanted was 206 or 200",
                r->status);
    }
}

int reply_check(const Reply *r, const ReplyWanted *w, uint64_t *ret_first, Err *err) {
    if (r->status != 200 && r->status != 206)
        return check_status(r, w, err);
    if (r->encoding_text[0])
        return err_set(err, -EBADMSG,
                "the answer is encoded ('%s'), the bytes themselves are wanted", r->encoding_text);
    return r->status == 206 ? check_part(r, w, ret_first, err) : check_whole(r, w, ret_first, err);
}
