#include "request/multipart.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#include <strings.h>

enum { MAX_BOUNDARY = 70, MAX_HEADERS = 4096 };

typedef enum State {
    STATE_PREAMBLE, /* before the first delimiter */
    STATE_AFTER,    /* behind a delimiter: "--" ends the body, a line's end begins a part */
    STATE_HEADERS,
    STATE_BODY,
    STATE_EPILOGUE,
} State;

struct Multipart {
    MultipartLimits limits;
    State state;
    char delimiter[MAX_BOUNDARY + 5]; /* CR LF - - boundary */
    size_t delimiter_size;
    Buf pending; /* bytes that are not yet decided on */
    size_t used; /* of pending */
    RequestPart *parts;
    Buf *bodies; /* of parts, which point into them once the body has ended */
    size_t n_parts;
};

/* The value of one parameter of a header, "name=value" or "name=\"value\"", unquoted into new
 * memory. Returns 1; 0 when there is none; -EINVAL; -ENOMEM. */
static int header_param(const char *header, const char *name, char **ret) {
    const char *p = strchr(header, ';');
    size_t n_name = strlen(name);
    while (p) {
        p += 1 + strspn(p + 1, " \t");
        bool wanted = strncasecmp(p, name, n_name) == 0 && p[n_name] == '=';
        p += strcspn(p, "=;");
        if (*p != '=') {
            p = *p ? p : NULL;
            continue;
        }
        p++;
        _cleanup_free_ char *value = strdup(p);
        if (!value)
            return -ENOMEM;
        size_t n = 0;
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++) {
                if (*p == '\\' && p[1])
                    p++;
                value[n++] = *p;
            }
            if (!*p)
                return -EINVAL;
        } else {
            n = strcspn(p, "; \t");
        }
        value[n] = '\0';
        if (wanted) {
            *ret = TAKE_PTR(value);
            return 1;
        }
        p = strchr(p, ';');
    }
    return 0;
}

int multipart_new(
        const char *content_type, const MultipartLimits *limits, Multipart **ret, Err *err) {
    _cleanup_free_ char *boundary = NULL;
    int k = header_param(content_type, "boundary", &boundary);
    if (k == -ENOMEM)
        return err_set(err, k, "no memory for the body");
    if (k <= 0 || !*boundary || strlen(boundary) > MAX_BOUNDARY)
        return err_set(err, -EINVAL,
                "the content type '%.100s' needs a boundary of 1 to %d characters", content_type,
                MAX_BOUNDARY);
    Multipart *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, -ENOMEM, "no memory for the body");
    m->limits = *limits;
    m->delimiter_size = (size_t)snprintf(m->delimiter, sizeof(m->delimiter), "\r\n--%s", boundary);
    /* The first delimiter may stand at the very beginning, without the line's end before it. */
    buf_append(&m->pending, "\r\n", 2);
    m->parts = calloc(limits->max_parts, sizeof(*m->parts));
    m->bodies = calloc(limits->max_parts, sizeof(*m->bodies));
    if (!m->parts || !m->bodies || buf_failed(&m->pending)) {
        (void)multipart_free(m);
        return err_set(err, -ENOMEM, "no memory for the body");
    }
    *ret = m;
    return 0;
}

Multipart *multipart_free(Multipart *m) {
    if (!m)
        return NULL;
    for (size_t i = 0; i < m->n_parts; i++) {
        free((char *)m->parts[i].name);
        buf_done(&m->bodies[i]);
    }
    free(m->parts);
    free(m->bodies);
    buf_done(&m->pending);
    free(m);
    return NULL;
}

static const char *left(const Multipart *m, size_t *ret_n) {
    *ret_n = m->pending.size - m->used;
    return m->pending.data + m->used;
}

/* One header line, without its end. Sets what it finds, the others stay. */
static int read_header(char *line, char **name, bool *is_file, Err *err) {
    static const char disposition[] = "content-disposition:";
    static const char encoding[] = "content-transfer-encoding:";
    if (strncasecmp(line, encoding, strlen(encoding)) == 0) {
        const char *value = line + strlen(encoding) + strspn(line + strlen(encoding), " \t");
        if (strcasecmp(value, "binary") != 0 && strcasecmp(value, "8bit") != 0 &&
                strcasecmp(value, "7bit") != 0)
            return err_set(err, -EINVAL,
                    "a part has the transfer encoding '%.40s', it must be binary", value);
    }
    if (strncasecmp(line, disposition, strlen(disposition)) != 0)
        return 0;
    _cleanup_free_ char *file = NULL;
    free(*name);
    *name = NULL;
    int k = header_param(line, "name", name);
    if (k >= 0)
        k = header_param(line, "filename", &file);
    if (k == 0)
        k = header_param(line, "filename*", &file);
    if (k < 0)
        return err_set(err, k, "a part's header '%.100s' cannot be read", line);
    *is_file = file != NULL;
    return 0;
}

static int begin_part(Multipart *m, char *headers, Err *err) {
    _cleanup_free_ char *name = NULL;
    bool is_file = false;
    int k = 0;
    char *save, *line = strtok_r(headers, "\r\n", &save);
    for (; line && k == 0; line = strtok_r(NULL, "\r\n", &save))
        k = read_header(line, &name, &is_file, err);
    if (k < 0)
        return k;
    if (!name)
        return err_set(err, -EINVAL, "part %zu of the form has no name", m->n_parts + 1);
    if (m->n_parts == m->limits.max_parts)
        return err_set(err, -EFBIG, "the form has more than %zu parts", m->limits.max_parts);
    m->parts[m->n_parts++] = (RequestPart){.name = TAKE_PTR(name), .is_file = is_file};
    m->state = STATE_BODY;
    return 0;
}

/* Each step returns 1 when it got further, 0 when it needs more bytes, negative errno. */
static int step_headers(Multipart *m, Err *err) {
    size_t n;
    char *start = (char *)left(m, &n), *end = memmem(start, n, "\r\n\r\n", 4);
    if ((end ? (size_t)(end - start) : n) > MAX_HEADERS)
        return err_set(err, -EFBIG, "the headers of a part have more than %d bytes", MAX_HEADERS);
    if (!end)
        return 0;
    *end = '\0';
    if (strlen(start) != (size_t)(end - start))
        return err_set(err, -EINVAL, "the headers of a part contain a NUL");
    m->used += (size_t)(end - start) + 4;
    int k = begin_part(m, start, err);
    return k < 0 ? k : 1;
}

static int add_to_part(Multipart *m, const char *data, size_t n, Err *err) {
    const RequestPart *part = &m->parts[m->n_parts - 1];
    Buf *body = &m->bodies[m->n_parts - 1];
    size_t limit = part->is_file ? m->limits.max_file_bytes : m->limits.max_text_bytes;
    if (n > limit - body->size)
        return err_set(
                err, -EFBIG, "'%.60s' has more than the limit of %zu bytes", part->name, limit);
    buf_append(body, data, n);
    return buf_failed(body) ? err_set(err, -ENOMEM, "no memory for '%.60s'", part->name) : 0;
}

/* Everything before the next delimiter; without one, all that cannot be the beginning of one. */
static int step_content(Multipart *m, Err *err) {
    size_t n;
    const char *start = left(m, &n), *end = memmem(start, n, m->delimiter, m->delimiter_size);
    size_t content = end ? (size_t)(end - start) : n - MIN(n, m->delimiter_size - 1);
    if (m->state == STATE_BODY) {
        int k = add_to_part(m, start, content, err);
        if (k < 0)
            return k;
    }
    m->used += content;
    if (!end)
        return 0;
    m->used += m->delimiter_size;
    m->state = STATE_AFTER;
    return 1;
}

static int step_after(Multipart *m, Err *err) {
    size_t n;
    const char *p = left(m, &n);
    if (n < 2)
        return 0;
    if (memcmp(p, "--", 2) == 0)
        m->state = STATE_EPILOGUE;
    else if (memcmp(p, "\r\n", 2) == 0)
        m->state = STATE_HEADERS; /* the line's end stays: it may be the first half of the empty
                                     line that ends the headers */
    else
        return err_set(err, -EINVAL,
                "a delimiter of the form is followed by neither a line's "
                "end nor '--'");
    return 1;
}

static int step(Multipart *m, Err *err) {
    switch (m->state) {
    case STATE_PREAMBLE:
    case STATE_BODY:
        return step_content(m, err);
    case STATE_AFTER:
        return step_after(m, err);
    case STATE_HEADERS:
        return step_headers(m, err);
    case STATE_EPILOGUE:
        break;
    }
    m->used = m->pending.size; /* whatever stands behind the end is nothing */
    return 0;
}

int multipart_feed(Multipart *m, const void *data, size_t n, Err *err) {
    buf_append(&m->pending, data, n);
    if (buf_failed(&m->pending))
        return err_set(err, -ENOMEM, "no memory for the body");
    int k;
    do
        k = step(m, err);
    while (k > 0);
    size_t rest = m->pending.size - m->used;
    memmove(m->pending.data, m->pending.data + m->used, rest);
    m->pending.size = rest;
    m->used = 0;
    return k;
}

int multipart_finish(Multipart *m, Err *err) {
    if (m->state != STATE_EPILOGUE)
        return err_set(err, -EINVAL, "the form ends without its last delimiter");
    for (size_t i = 0; i < m->n_parts; i++) {
        buf_append(&m->bodies[i], "", 0); /* the NUL of an empty one */
        if (buf_failed(&m->bodies[i]))
            return err_set(err, -ENOMEM, "no memory for the body");
        m->parts[i].data = m->bodies[i].data;
        m->parts[i].size = m->bodies[i].size;
    }
    return 0;
}

const RequestPart *multipart_parts(const Multipart *m, size_t *ret_n) {
    *ret_n = m->n_parts;
    return m->parts;
}
