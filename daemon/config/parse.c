#include "config/parse.h"

#include "base/buf.h"
#include "base/size.h"
#include "base/str.h"
#include "config/keys.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <string.h>

enum { MAX_KEYS = 128 };

/* State of one file, for inih's two callbacks. inih hands out neither line numbers nor long lines,
 * so the reader, which sees every line, keeps track of both. */
typedef struct Parse {
    const char *file;
    const char *text;
    size_t size, at;
    int line;
    bool continued;     /* the line at hand starts with white space */
    int seen[MAX_KEYS]; /* line that set key i, 0: none in this file */
    const Key *last;    /* key that a continuation line belongs to */
    Buf value;          /* its value so far */
    Config *config;
    Err *err;
    int result; /* first failure */
    int result_line;
} Parse;

static int fail(Parse *p, int line, int code) {
    p->result = err_prefix(p->err, code, "%s:%d", p->file, line);
    p->result_line = line;
    return p->result;
}

/* A failed line ends the file early: inih itself goes on after an error. */
static char *next_line(char *line, int room, void *context) {
    Parse *p = context;
    if (p->result < 0 || p->at == p->size)
        return NULL;
    const char *start = p->text + p->at;
    const char *end = memchr(start, '\n', p->size - p->at);
    size_t n = end ? (size_t)(end - start) + 1 : p->size - p->at;
    p->line++;
    p->at += n;
    if (n >= (size_t)room) {
        (void)err_set(p->err, -EINVAL,
                "the line has %zu bytes, allowed are %d; continue it on a next line that starts "
                "with white space",
                n, room - 2);
        (void)fail(p, p->line, -EINVAL);
        return NULL;
    }
    p->continued = start[0] == ' ' || start[0] == '\t';
    memcpy(line, start, n);
    line[n] = '\0';
    return line;
}

static int unknown_key(Parse *p, const char *section, const char *name, bool section_known) {
    if (section[0] == '\0')
        return err_set(p->err, -EINVAL, "'%.60s' stands before the first [section]", name);
    size_t n;
    const Key *keys = key_table(&n);
    Buf known = {0};
    for (size_t i = 0; i < n; i++) {
        bool same = str_eq(keys[i].section, section);
        if (section_known && same)
            buf_printf(&known, "%s%s", known.size ? ", " : "", keys[i].name);
        else if (!section_known && (i == 0 || !str_eq(keys[i].section, keys[i - 1].section)))
            buf_printf(&known, "%s%s", known.size ? ", " : "", keys[i].section);
    }
    const char *list = buf_failed(&known) ? "others" : known.data;
    int r = section_known ? err_set(p->err, -EINVAL, "[%.60s] has no key '%.60s', it has: %s",
                                    section, name, list)
                          : err_set(p->err, -EINVAL, "there is no section [%.60s], there are: %s",
                                    section, list);
    buf_done(&known);
    return r;
}

static int set_continued(Parse *p, const char *more) {
    if (p->last->type != KEY_TEXT)
        return err_set(p->err, -EINVAL,
                "the line starts with white space, hence continues '%s', which takes one line",
                p->last->name);
    buf_printf(&p->value, " %s", more);
    if (buf_failed(&p->value))
        return err_set(p->err, -ENOMEM, "out of memory");
    return key_set(p->last, p->value.data, p->config, p->err);
}

static int set_key(Parse *p, const char *section, const char *name, const char *value) {
    size_t n;
    const Key *keys = key_table(&n);
    bool section_known;
    const Key *k = key_find(section, name, &section_known);
    assert(n <= MAX_KEYS);
    if (!k)
        return unknown_key(p, section, name, section_known);
    if (p->continued && k == p->last)
        return set_continued(p, value);
    if (p->seen[k - keys])
        return err_set(p->err, -EINVAL, "'%s' was already set in line %d", name, p->seen[k - keys]);
    p->seen[k - keys] = p->line;
    p->last = k;
    buf_done(&p->value);
    buf_printf(&p->value, "%s", value);
    if (buf_failed(&p->value))
        return err_set(p->err, -ENOMEM, "out of memory");
    return key_set(k, value, p->config, p->err);
}

static int on_key(void *context, const char *section, const char *name, const char *value) {
    Parse *p = context;
    if (p->result < 0)
        return 0;
    int r = set_key(p, section, name, value);
    if (r < 0)
        (void)fail(p, p->line, r);
    return r == 0;
}

int parse_text(const char *file, const char *text, size_t n, Config *c, Err *err) {
    if (memchr(text, '\0', n) || !str_is_utf8(text, n))
        return err_set(err, -EINVAL, "%s: is not UTF-8 text", file);

    Parse p = {.file = file, .text = text, .size = n, .config = c, .err = err};
    int bad_line = ini_parse_stream(next_line, &p, on_key, &p);
    buf_done(&p.value);
    /* inih reads on after a line that it could not understand: the earlier failure counts. */
    if (p.result < 0 && (bad_line <= 0 || p.result_line <= bad_line))
        return p.result;
    err_clear(err);
    if (bad_line < 0)
        return err_set(err, -ENOMEM, "%s: out of memory", file);
    if (bad_line > 0)
        return err_set(err, -EINVAL, "%s:%d: is neither [section] nor key = value", file, bad_line);
    return 0;
}

int parse_defaults(Config *c, Err *err) {
    size_t n;
    const Key *keys = key_table(&n);
    for (size_t i = 0; i < n; i++) {
        int r = key_set(&keys[i], keys[i].default_text, c, err);
        if (r < 0)
            return err_prefix(err, r, "default of [%s]", keys[i].section);
    }
    return 0;
}

static int check_below(const char *name, double value, double limit, Err *err) {
    if (value <= limit)
        return 0;
    return err_set(err, -EINVAL, "[defaults] %s = %g is above [limits], which allow %g", name,
            value, limit);
}

/* As a Host header gives them, less the port. */
static int check_hosts(const char *names, Err *err) {
    for (const char *name = names; *name;) {
        size_t n = strcspn(name, " ");
        size_t end = *name == '[' ? strcspn(name, "]") + 1 : strcspn(name, "/:");
        if (end < n)
            return err_set(err, -EINVAL,
                    "[daemon] allowed_hosts has '%.*s', wanted are names without '/' and port",
                    (int)n, name);
        name += n;
        name += strspn(name, " ");
    }
    return 0;
}

/* What names no protocol of these is a typing error; the rest is looked at when it is used. */
static int check_source(const Config *c, Err *err) {
    static const char *const known[] = {"https://", "http://", "s3://"};
    const char *source = c->model.source, *digest = c->model.manifest_digest;
    const char *host = source[0] ? NULL : source;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_starts(source, known[i]))
            host = source + strlen(known[i]);
    if (!host)
        return err_set(err, -EINVAL,
                "[model] source = '%.200s' must begin with https://, http:// or s3://", source);
    if (memchr(host, '@', strcspn(host, "/")))
        return err_set(err, -EINVAL,
                "[model] source has an '@': users and passwords do not belong into a file that "
                "everybody may read");
    if (digest[0] && (strlen(digest) != 32 || strspn(digest, "0123456789abcdefABCDEF") != 32))
        return err_set(err, -EINVAL, "[model] manifest_digest = '%s' is not 32 hexadecimal digits",
                digest);
    return 0;
}

int parse_check(const Config *c, Err *err) {
    const struct {
        const char *name;
        double value, limit;
    } pairs[] = {
            {"width", (double)c->defaults.width, (double)c->limits.max_width},
            {"height", (double)c->defaults.height, (double)c->limits.max_height},
            {"num_frames", (double)c->defaults.num_frames, (double)c->limits.max_frames},
            {"steps", (double)c->defaults.steps, (double)c->limits.max_steps},
            {"fps", c->defaults.fps, c->limits.max_fps},
            {"guidance_scale", c->defaults.guidance_scale, c->limits.max_guidance_scale},
            {"width times height", (double)(c->defaults.width * c->defaults.height),
                    (double)c->limits.max_pixels},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        int r = check_below(pairs[i].name, pairs[i].value, pairs[i].limit, err);
        if (r < 0)
            return r;
    }
    if (c->warmup.chunk_size % (2 * MIB))
        return err_set(err, -EINVAL, "[warmup] chunk_size = %llu is not a multiple of 2M",
                (unsigned long long)c->warmup.chunk_size);
    if (c->warmup.read_size % 4096)
        return err_set(err, -EINVAL, "[warmup] read_size = %llu is not a multiple of 4K",
                (unsigned long long)c->warmup.read_size);
    if (strchr(c->model.name, '/') || c->model.name[0] == '.')
        return err_set(err, -EINVAL,
                "[model] name = '%s' names a file: it must have no '/' and not begin with '.'",
                c->model.name);
    int r = check_source(c, err);
    return r < 0 ? r : check_hosts(c->daemon.allowed_hosts, err);
}
