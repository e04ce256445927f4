#include "http/server-impl.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "http/status.h"

#include <errno.h>

const char *http_header(HttpExchange *x, const char *name) {
    return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

const char *http_query(HttpExchange *x, const char *name) {
    return MHD_lookup_connection_value(x->mhd, MHD_GET_ARGUMENT_KIND, name);
}

HttpService http_describe(HttpServer *s) {
    HttpService service = {0};
    s->options.describe(s->options.context, &service);
    assert(!service.accepting || (service.limits && service.defaults));
    return service;
}

static int out_of_memory(HttpExchange *x) {
    return err_set(&x->err, -ENOMEM, "no memory for the answer");
}

int http_reply_header(HttpExchange *x, const char *name, const char *value) {
    return MHD_add_response_header(x->response, name, value) == MHD_YES ? 0 : out_of_memory(x);
}

/* Takes text, which malloc() made; n bytes. */
static int reply(HttpExchange *x, unsigned status, const char *type, char *text, size_t n) {
    assert(!x->response);
    x->response = text ? MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!x->response) {
        free(text);
        return out_of_memory(x);
    }
    x->status = status;
    int r = http_reply_header(x, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (r == 0)
        r = http_reply_header(x, "X-Content-Type-Options", "nosniff");
    if (r == 0)
        r = http_reply_header(x, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (r < 0) {
        MHD_destroy_response(x->response);
        x->response = NULL;
    }
    return r;
}

int http_reply_json(HttpExchange *x, unsigned status, json_t *j) {
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(j);
    return reply(x, status, "application/json", text, text ? strlen(text) : 0);
}

int http_reply_text(HttpExchange *x, const char *type, const char *text, size_t n) {
    char *copy = malloc(n ? n : 1);
    if (copy)
        memcpy(copy, text, n);
    return reply(x, MHD_HTTP_OK, type, copy, n);
}

/* Sentences quote what clients sent, and may have been cut within a character. */
static json_t *clean_text(const char *text) {
    char clean[sizeof(((Err *)0)->text)];
    (void)snprintf(clean, sizeof(clean), "%s", text);
    str_mend_utf8(clean);
    return json_string(clean);
}

static json_t *envelope(HttpExchange *x, const HttpStatus *status) {
    const char *code = x->fault.code ? x->fault.code : status->code;
    return json_pack("{s:{s:o, s:s, s:o, s:s?}}", "error", "message", clean_text(err_text(&x->err)),
            "type", status->type, "param",
            *x->fault.param ? clean_text(x->fault.param) : json_null(), "code", code);
}

bool http_reply_error(HttpExchange *x) {
    HttpStatus status = http_status(x->code);
    if (x->response) {
        MHD_destroy_response(x->response);
        x->response = NULL;
    }
    json_t *j = envelope(x, &status);
    err_clear(&x->err);
    if (http_reply_json(x, status.status, j) < 0)
        return false;
    char seconds[16];
    (void)snprintf(seconds, sizeof(seconds), "%d", x->retry_after_sec > 0 ? x->retry_after_sec : 5);
    int r = 0;
    if (status.status == 429 || status.status == 503)
        r = http_reply_header(x, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    if (r == 0 && x->hint_name)
        r = http_reply_header(x, x->hint_name, x->hint);
    if (r == 0 && status.status == 401)
        r = http_reply_header(x, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    return r == 0;
}
