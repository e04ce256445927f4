#include "remote/transfer-impl.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>

enum { MAX_REDIRECTS = 5, STALL_BYTES = 1024, BUFFER_BYTES = 256 * 1024 };
#define MAX_PAUSE_USEC (300 * USEC_PER_SEC)

/* The whole file is asked for: an answer that knows no ranges will do. */
static bool wants_all(const RemoteGet *g) {
    return g->file_bytes == 0 || (g->offset == 0 && g->bytes == g->file_bytes);
}

static ReplyWanted wanted_of(const RemoteGet *g) {
    if (g->file_bytes == 0)
        return (ReplyWanted){.last = REPLY_UNKNOWN, .total = REPLY_UNKNOWN, .whole = true};
    return (ReplyWanted){.first = g->offset + g->done,
            .last = g->offset + g->bytes - 1,
            .total = g->file_bytes,
            .whole = wants_all(g)};
}

static int too_much(RemoteGet *g) {
    return err_set(&g->err, -EFBIG, "it has more than the %ju bytes that are allowed",
            (uintmax_t)g->bytes);
}

static int check_head(Transfer *t) {
    RemoteGet *g = t->get;
    ReplyWanted wanted = wanted_of(g);
    uint64_t first;
    t->checked = true;
    int r = reply_check(&t->reply, &wanted, &first, &g->err);
    if (r < 0)
        return r;
    t->skip = wanted.first - first;
    if (g->file_bytes > 0 || t->reply.length == REPLY_UNKNOWN)
        return 0;
    if (t->reply.length > g->bytes)
        return too_much(g);
    g->bytes = g->file_bytes = t->reply.length; /* told by the first answer */
    return 0;
}

static size_t take_body(char *data, size_t size, size_t n, void *context) {
    Transfer *t = context;
    RemoteGet *g = t->get;
    n *= size;
    if (!t->checked)
        t->refused = check_head(t);
    if (t->refused < 0)
        return 0;
    t->received += n;
    size_t skipped = (size_t)MIN((uint64_t)n, t->skip);
    t->skip -= skipped;
    data += skipped;
    size_t room = (size_t)MIN((uint64_t)(n - skipped), g->bytes - g->done);
    if (room > 0)
        t->refused = g->take(g, g->offset + g->done, data, room);
    if (t->refused < 0)
        return 0;
    g->done += room;
    if (room == n - skipped)
        return n;
    if (g->file_bytes == 0)
        t->refused = too_much(g);
    return 0; /* enough was sent */
}

static size_t take_line(char *data, size_t size, size_t n, void *context) {
    Transfer *t = context;
    reply_line(&t->reply, data, size * n);
    return size * n;
}

static void set_protocols(Transfer *t) {
    const Location *l = &t->settings->location;
    (void)curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, l->secure ? "https" : "http");
    (void)curl_easy_setopt(
            t->curl, CURLOPT_REDIR_PROTOCOLS_STR, l->secure ? "https" : "http,https");
    /* A signature is for one address. */
    (void)curl_easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, l->s3 ? 0L : 1L);
    (void)curl_easy_setopt(t->curl, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    (void)curl_easy_setopt(t->curl, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    /* Several connections are several windows; streams of one would share it. */
    (void)curl_easy_setopt(t->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (t->settings->ca_file[0])
        (void)curl_easy_setopt(t->curl, CURLOPT_CAINFO, t->settings->ca_file);
}

static void set_credentials(Transfer *t) {
    const TransferSettings *s = t->settings;
    (void)curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, s->headers);
    if (s->token[0]) {
        (void)curl_easy_setopt(t->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        (void)curl_easy_setopt(t->curl, CURLOPT_XOAUTH2_BEARER, s->token);
    }
    if (s->user[0]) {
        (void)curl_easy_setopt(t->curl, CURLOPT_AWS_SIGV4, s->signing);
        (void)curl_easy_setopt(t->curl, CURLOPT_USERNAME, s->user);
        (void)curl_easy_setopt(t->curl, CURLOPT_PASSWORD, s->password);
    }
}

static void set_limits(Transfer *t) {
    const TransferSettings *s = t->settings;
    long stall_sec = (long)((s->stall_timeout_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
    (void)curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Ending a request does not wait for the thread that asks for the host's address. EL 9 has an
     * older libcurl, which does. */
    (void)curl_easy_setopt(t->curl, CURLOPT_QUICK_EXIT, 1L);
#endif
    (void)curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT_MS,
            (long)MAX(s->connect_timeout_usec / USEC_PER_MSEC, (uint64_t)1));
    (void)curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES);
    (void)curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_TIME, MAX(stall_sec, 1L));
    (void)curl_easy_setopt(t->curl, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)s->bandwidth_bytes);
    if (s->bandwidth_bytes == 0)
        (void)curl_easy_setopt(t->curl, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
}

int transfer_init(Transfer *t, const TransferSettings *s, Err *err) {
    *t = (Transfer){.curl = curl_easy_init(), .settings = s};
    if (!t->curl)
        return err_set(err, -ENOMEM, "no memory for an HTTP client");
    set_protocols(t);
    set_credentials(t);
    set_limits(t);
    (void)curl_easy_setopt(t->curl, CURLOPT_USERAGENT, "preheat/" PREHEAT_VERSION);
    (void)curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, t->text);
    (void)curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, take_line);
    (void)curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(t->curl, CURLOPT_PRIVATE, t);
    return 0;
}

void transfer_done(Transfer *t) {
    curl_easy_cleanup(t->curl);
    free(t->address);
}

int transfer_begin(Transfer *t, RemoteGet *g) {
    char range[64] = "";
    ReplyWanted w = wanted_of(g);
    t->get = g;
    t->checked = false;
    t->refused = 0;
    t->skip = 0;
    t->text[0] = '\0';
    reply_begin(&t->reply);
    err_clear(&g->err);
    if (g->file_bytes == 0)
        g->done = 0;
    else
        (void)snprintf(range, sizeof(range), "%ju-%ju", (uintmax_t)w.first, (uintmax_t)w.last);
    t->address = location_address(&t->settings->location, g->path);
    if (!t->address || curl_easy_setopt(t->curl, CURLOPT_URL, t->address) != CURLE_OK ||
            curl_easy_setopt(t->curl, CURLOPT_RANGE, range[0] ? range : NULL) != CURLE_OK)
        return -ENOMEM;
    return 0;
}

/* libcurl's own failures: the errno, and whether another attempt may end better. */
static int explain_failure(Transfer *t, CURLcode code, bool *ret_passing) {
    Err *err = &t->get->err;
    const char *why = t->text[0] ? t->text : curl_easy_strerror(code);
    *ret_passing = true;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return err_set(err, -EHOSTUNREACH, "cannot connect: %s", why);
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
        return err_set(err, -EIO, "broke off after %ju of %ju bytes: %s", (uintmax_t)t->get->done,
                (uintmax_t)t->get->bytes, why);
    case CURLE_OUT_OF_MEMORY:
        *ret_passing = false;
        return err_set(err, -ENOMEM, "no memory for a request");
    default:
        *ret_passing = false;
        return err_set(err, -EPROTO, "%s", why);
    }
}

static bool is_complete(const Transfer *t, CURLcode code) {
    const RemoteGet *g = t->get;
    return g->file_bytes ? g->done == g->bytes : code == CURLE_OK;
}

/* Returns the request's result. */
static int judge(Transfer *t, CURLcode code, bool *ret_passing) {
    RemoteGet *g = t->get;
    *ret_passing = false;
    if (code == CURLE_OK && !t->checked) /* an answer without a body */
        t->refused = check_head(t);
    if (t->refused < 0) {
        *ret_passing = t->refused == -EAGAIN && t->reply.status != 200 && t->reply.status != 206;
        return *ret_passing ? -EIO : t->refused;
    }
    if (t->checked && is_complete(t, code))
        return 0;
    if (code != CURLE_OK)
        return explain_failure(t, code, ret_passing);
    *ret_passing = true;
    return err_set(&g->err, -EIO, "the answer ended after %ju of %ju bytes", (uintmax_t)g->done,
            (uintmax_t)g->bytes);
}

int transfer_end(Transfer *t, CURLcode code, uint64_t *ret_pause_usec) {
    RemoteGet *g = t->get;
    bool passing;
    curl_off_t pause_sec = 0;
    g->result = judge(t, code, &passing);
    if (g->result < 0)
        (void)err_prefix(&g->err, g->result, "'%s'", t->address ? t->address : g->path);
    else
        err_clear(&g->err);
    g->err.code = g->result;
    if (curl_easy_getinfo(t->curl, CURLINFO_RETRY_AFTER, &pause_sec) != CURLE_OK || pause_sec < 0)
        pause_sec = 0;
    *ret_pause_usec = MIN((uint64_t)pause_sec, MAX_PAUSE_USEC / USEC_PER_SEC) * USEC_PER_SEC;
    free(t->address);
    t->address = NULL;
    t->get = NULL;
    return passing ? TRANSFER_PASSING : 0;
}
