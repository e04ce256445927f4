#include "ctl/client.h"

#include "base/buf.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "ctl/exit.h"

#include <curl/curl.h>

#define MAX_ANSWER_BYTES ((size_t)16 << 20)
#define CONNECT_SEC 10L
/* A socket-activated daemon answers once it has started; this long without a byte is too long. */
#define SILENCE_SEC 120L

struct Client {
    CURL *curl;
    struct curl_slist *headers;
    ClientOptions options;
    char *where; /* for sentences */
};

/* What an answer's bytes go to: memory, or a file once its status is known to be 200. */
typedef struct Answer {
    CURL *curl;
    Buf body;
    int fd;           /* -1: memory only */
    bool may_be_down; /* status 503 is an answer as good as 200 */
    int write_error;
} Answer;

int client_new(const ClientOptions *o, Client **ret, Err *err) {
    assert(!o->socket != !o->url);
    _cleanup_(client_freep) Client *c = calloc(1, sizeof(*c));
    if (!c || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return err_set(err, -ENOMEM, "no memory for an HTTP client");
    c->options = *o;
    c->curl = curl_easy_init();
    c->where = o->socket ? str_format("socket '%s'", o->socket) : str_format("'%s'", o->url);
    if (!c->curl || !c->where)
        return err_set(err, -ENOMEM, "no memory for an HTTP client");
    if (o->token) {
        _cleanup_free_ char *header = str_format("Authorization: Bearer %s", o->token);
        c->headers = header ? curl_slist_append(NULL, header) : NULL;
        if (!c->headers)
            return err_set(err, -ENOMEM, "no memory for an HTTP client");
    }
    *ret = TAKE_PTR(c);
    return 0;
}

Client *client_free(Client *c) {
    if (!c)
        return NULL;
    curl_slist_free_all(c->headers);
    curl_easy_cleanup(c->curl);
    free(c->where);
    free(c);
    return NULL;
}

static size_t take_bytes(char *data, size_t size, size_t n, void *context) {
    Answer *a = context;
    long status = 0;
    (void)curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    if (a->fd >= 0 && status == 200) {
        a->write_error = io_write_all(a->fd, data, size * n);
        return a->write_error < 0 ? 0 : size * n;
    }
    if (a->body.size + size * n > MAX_ANSWER_BYTES)
        return 0;
    buf_append(&a->body, data, size * n);
    return buf_failed(&a->body) ? 0 : size * n;
}

static int ask_stop(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    const Client *client = context;
    return client->options.stop && client->options.stop(client->options.context);
}

static int set_up(Client *c, const char *path, Answer *a, Err *err) {
    const ClientOptions *o = &c->options;
    const char *base = o->url ? o->url : "http://localhost";
    size_t n = strlen(base);
    while (n > 0 && base[n - 1] == '/') /* path has one */
        n--;
    _cleanup_free_ char *url = str_format("%.*s%s", (int)n, base, path);
    if (!url)
        return err_set(err, -ENOMEM, "no memory for an address");
    curl_easy_reset(c->curl);
    CURLcode r = curl_easy_setopt(c->curl, CURLOPT_URL, url);
    if (r == CURLE_OK && o->socket) {
        r = curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, o->socket);
        (void)curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    }
    if (r == CURLE_OK)
        r = curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    if (r != CURLE_OK)
        return err_set(err, CTL_UNREACHABLE, "cannot use %s: %s", c->where, curl_easy_strerror(r));
    (void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SEC);
    (void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, SILENCE_SEC);
    (void)curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->headers);
    (void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take_bytes);
    (void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, a);
    (void)curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, ask_stop);
    (void)curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    return 0;
}

static int transport_failed(const Client *c, CURLcode code, const Answer *a, Err *err) {
    if (a->write_error < 0)
        return err_set(
                err, a->write_error, "cannot write the video: %s", strerror(-a->write_error));
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, CTL_INTERRUPTED, "interrupted");
    if (code == CURLE_READ_ERROR)
        return err_set(err, -EIO, "cannot read a file that was to be sent");
    long os_errno = 0;
    (void)curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os_errno);
    const char *socket = c->options.socket;
    if (code == CURLE_COULDNT_CONNECT && socket && os_errno == EACCES)
        return err_set(err, CTL_UNREACHABLE, "you may not use %s%s", c->where,
                str_eq(socket, CLIENT_SOCKET)
                        ? ": root and members of group preheat may; --url http://127.0.0.1:8484 "
                          "needs neither"
                        : "");
    const char *hint = socket && (os_errno == ENOENT || os_errno == ECONNREFUSED)
                               ? "; is preheatd-api.socket started?"
                               : "";
    if (code == CURLE_COULDNT_CONNECT && os_errno)
        return err_set(err, CTL_UNREACHABLE, "nobody answers at %s: %s%s", c->where,
                strerror((int)os_errno), hint);
    return err_set(
            err, CTL_UNREACHABLE, "no answer from %s: %s", c->where, curl_easy_strerror(code));
}

/* {"error": {"message": ..., "code": ..., "param": ...}} as a sentence. */
static int refused(const Client *c, long status, const Answer *a, Err *err) {
    _cleanup_json_ json_t *answer = NULL;
    const char *message = NULL, *code = NULL;
    if (json_parse(a->body.data ? a->body.data : "", a->body.size, &answer, NULL) == 0) {
        const json_t *error = json_object_get(answer, "error");
        message = json_string_value(json_object_get(error, "message"));
        code = json_string_value(json_object_get(error, "code"));
    }
    if (!message)
        return err_set(err, CTL_REFUSED, "%s answered with HTTP status %ld", c->where, status);
    return err_set(err, CTL_REFUSED, "%s (%s%sHTTP %ld)", message, code ? code : "",
            code ? ", " : "", status);
}

/* Runs what was set up; *ret is the answer's JSON unless it went to a file. */
static int perform(Client *c, Answer *a, json_t **ret, Err *err) {
    CURLcode code = curl_easy_perform(c->curl);
    if (code != CURLE_OK)
        return transport_failed(c, code, a, err);
    long status = 0;
    (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if ((status < 200 || status > 299) && !(a->may_be_down && status == 503))
        return refused(c, status, a, err);
    if (!ret)
        return 0;
    Err why = {0};
    if (json_parse(a->body.data ? a->body.data : "", a->body.size, ret, &why) < 0)
        return err_set(
                err, -EPROTO, "%s does not answer as preheatd does: %s", c->where, err_text(&why));
    return 0;
}

static int get(Client *c, const char *path, bool may_be_down, json_t **ret, Err *err) {
    Answer a = {.curl = c->curl, .fd = -1, .may_be_down = may_be_down};
    int r = set_up(c, path, &a, err);
    if (r == 0)
        r = perform(c, &a, ret, err);
    buf_done(&a.body);
    return r;
}

int client_get(Client *c, const char *path, json_t **ret, Err *err) {
    return get(c, path, false, ret, err);
}

int client_health(Client *c, json_t **ret, Err *err) {
    return get(c, "/healthz", true, ret, err);
}

int client_delete(Client *c, const char *path, json_t **ret, Err *err) {
    Answer a = {.curl = c->curl, .fd = -1};
    int r = set_up(c, path, &a, err);
    if (r == 0) {
        (void)curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, "DELETE");
        r = perform(c, &a, ret, err);
    }
    buf_done(&a.body);
    return r;
}

static CURLcode add_part(curl_mime *form, const ClientPart *part) {
    curl_mimepart *p = curl_mime_addpart(form);
    if (!p)
        return CURLE_OUT_OF_MEMORY;
    CURLcode r = curl_mime_name(p, part->name);
    if (r == CURLE_OK)
        r = part->text ? curl_mime_data(p, part->text, CURL_ZERO_TERMINATED)
                       : curl_mime_filedata(p, part->file);
    /* The server tells a picture by its content; its name is nobody's business. */
    if (r == CURLE_OK && !part->text)
        r = curl_mime_filename(p, "image");
    return r;
}

int client_post(Client *c, const char *path, const ClientPart *parts, size_t n_parts, json_t **ret,
        Err *err) {
    Answer a = {.curl = c->curl, .fd = -1};
    int r = set_up(c, path, &a, err);
    if (r < 0)
        return r;
    curl_mime *form = curl_mime_init(c->curl);
    CURLcode code = form ? CURLE_OK : CURLE_OUT_OF_MEMORY;
    const ClientPart *part = parts;
    for (; code == CURLE_OK && part < parts + n_parts; part++)
        code = add_part(form, part);
    if (code == CURLE_OK) {
        (void)curl_easy_setopt(c->curl, CURLOPT_MIMEPOST, form);
        r = perform(c, &a, ret, err);
    } else if (code == CURLE_READ_ERROR) {
        r = err_set(err, -EIO, "cannot read '%s': %s", part[-1].file, strerror(errno));
    } else {
        r = err_set(err, -ENOMEM, "no memory for a form");
    }
    curl_mime_free(form);
    buf_done(&a.body);
    return r;
}

int client_download(Client *c, const char *path, int fd, Err *err) {
    Answer a = {.curl = c->curl, .fd = fd};
    int r = set_up(c, path, &a, err);
    if (r == 0)
        r = perform(c, &a, NULL, err);
    buf_done(&a.body);
    return r;
}
