#include "http/server-impl.h"

#include "base/str.h"

#include <errno.h>
#include <strings.h>

/* Room in a body for everything but the picture and the prompts: names, delimiters, numbers. */
#define OVERHEAD_BYTES ((uint64_t)64 << 10)
/* Refused bodies up to this size are read and thrown away, so that the client gets to see the
 * answer instead of a reset connection. */
#define DISCARD_BYTES ((uint64_t)64 << 20)

static bool is_type(const char *header, const char *type) {
    size_t n = strlen(type);
    return strncasecmp(header, type, n) == 0 && (!header[n] || strchr("; \t", header[n]));
}

static void refuse(HttpExchange *x, int code) {
    x->code = code;
    http_body_done(x);
}

void http_body_done(HttpExchange *x) {
    x->server->upload_bytes -= x->held_bytes;
    x->held_bytes = 0;
    buf_done(&x->body);
    x->form = multipart_free(x->form);
}

/* A character of a prompt is up to 4 bytes, 12 when JSON escapes it; there are two prompts. */
static uint64_t text_limit(const RequestLimits *l) {
    return (uint64_t)l->max_prompt_chars * 24 + OVERHEAD_BYTES;
}

static void begin_form(HttpExchange *x, const char *type, const RequestLimits *l) {
    MultipartLimits limits = {.max_parts = 32,
            .max_text_bytes = (size_t)((uint64_t)l->max_image_bytes / 3 * 4 + text_limit(l)),
            .max_file_bytes = (size_t)l->max_image_bytes};
    int r = multipart_new(type, &limits, &x->form, &x->err);
    if (r < 0) {
        (void)request_fault(&x->fault, "", "invalid_multipart");
        refuse(x, r);
    }
}

static int not_accepting(HttpExchange *x, const HttpService *service) {
    x->retry_after_sec = service->retry_after_sec;
    return err_set(&x->err, -ESHUTDOWN, "%s",
            service->reason ? service->reason : "this server takes no jobs now");
}

void http_body_begin(HttpExchange *x) {
    HttpService service = http_describe(x->server);
    const char *type = http_header(x, MHD_HTTP_HEADER_CONTENT_TYPE);
    const char *length = http_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n = 0;
    x->body_limit = OVERHEAD_BYTES;
    if (!(x->route->flags & HTTP_BODY))
        return; /* a small one is thrown away */
    if (!service.accepting && !service.opening) {
        refuse(x, not_accepting(x, &service));
        return;
    }
    const RequestLimits *l = service.limits;
    x->body_limit = (uint64_t)l->max_image_bytes / 3 * 4 + text_limit(l);
    if (length && (str_to_u64(length, &n) < 0 || n > x->body_limit))
        refuse(x, err_set(&x->err, -EFBIG, "the body has %.30s bytes, the limit is %ju", length,
                          (uintmax_t)x->body_limit));
    else if (type && is_type(type, "multipart/form-data"))
        begin_form(x, type, l);
    else if (!type || !is_type(type, "application/json"))
        refuse(x, err_set(&x->err, -EPROTONOSUPPORT,
                          "the content type is '%.60s', it must be application/json or "
                          "multipart/form-data",
                          type ? type : ""));
}

/* How often the heads have each of these, and whether the transfer encoding is the one we read. */
typedef struct Framing {
    int n_hosts, n_lengths, n_encodings;
    bool chunked;
} Framing;

static enum MHD_Result look_at_head(
        void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    Framing *f = context;
    f->n_hosts += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
    f->n_lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        f->n_encodings++;
        f->chunked = value && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

int http_body_check_head(HttpExchange *x) {
    Framing f = {0};
    (void)MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, look_at_head, &f);
    const char *mistake = f.n_hosts > 1                     ? "more than one Host"
                          : f.n_lengths > 1                 ? "more than one Content-Length"
                          : f.n_lengths + f.n_encodings > 1 ? "two ways to tell its length"
                          : f.n_encodings == 1 && !f.chunked
                                  ? "another Transfer-Encoding than chunked"
                                  : NULL;
    if (!mistake)
        return 0;
    return err_set(&x->err, request_fault(&x->fault, "", "invalid_head"),
            "the request cannot be read with certainty: it has %s", mistake);
}

bool http_body_wanted(HttpExchange *x) {
    if (http_header(x, MHD_HTTP_HEADER_EXPECT))
        return false; /* it waits for our word before it sends anything */
    const char *length = http_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t n = 0;
    return !length || (str_to_u64(length, &n) == 0 && n <= DISCARD_BYTES);
}

static int take(HttpExchange *x, const char *data, size_t n) {
    HttpServer *s = x->server;
    if (x->received > x->body_limit)
        return err_set(&x->err, -EFBIG, "the body has more than the limit of %ju bytes",
                (uintmax_t)x->body_limit);
    if (!(x->route->flags & HTTP_BODY))
        return 0;
    if (s->upload_bytes + n > s->options.max_upload_bytes) {
        x->retry_after_sec = 1;
        return err_set(&x->err, -ENOBUFS, "too many large requests are being received");
    }
    s->upload_bytes += n;
    x->held_bytes += n;
    if (x->form) {
        int r = multipart_feed(x->form, data, n, &x->err);
        if (r == -EINVAL)
            (void)request_fault(&x->fault, "", "invalid_multipart");
        return r;
    }
    buf_append(&x->body, data, n);
    return buf_failed(&x->body) ? err_set(&x->err, -ENOMEM, "no memory for the request") : 0;
}

bool http_body_feed(HttpExchange *x, const char *data, size_t n) {
    x->received += n;
    int r = x->code < 0 ? 0 : take(x, data, n);
    if (r < 0)
        refuse(x, r);
    return x->code == 0 || x->received <= x->body_limit + DISCARD_BYTES;
}

void http_body_end(HttpExchange *x) {
    if (x->code < 0 || !x->form)
        return;
    int r = multipart_finish(x->form, &x->err);
    if (r == -EINVAL)
        (void)request_fault(&x->fault, "", "invalid_multipart");
    if (r < 0)
        refuse(x, r);
}
