#include "versions/version-lock.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Kind {
    const char *name;
    const char *value; /* what the value is, in a sentence */
    bool optional;     /* need not be found */
    bool at_least;     /* numbers with points; more is as good */
} Kind;

static const Kind kinds[] = {
        {"program", "version", false, false},
        {"format", "format", false, false},
        {"contract", "contract", false, false},
        {"library", "build-id", false, false},
        {"module", "build-id", true, false},
        {"runtime", "runtime", true, false},
        {"driver", "version", true, true},
        {"cublaslt", "version", true, false},
};

static const Kind *kind_find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}

/* One word without what would be read as something else, or shown as something else. */
static bool is_word(const char *text, size_t room) {
    size_t n = strlen(text);
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '#')
            return false;
    return n > 0 && n < room;
}

int version_lock_add(
        VersionLock *l, const char *kind, const char *name, const char *value, Err *err) {
    if (!kind_find(kind))
        return err_set(err, -EINVAL, "'%.40s' is no kind of version", kind);
    if (!is_word(name, sizeof(l->item->name)) || !is_word(value, sizeof(l->item->value)))
        return err_set(err, -EINVAL,
                "%s '%.80s' with '%.80s': each must be one word of at most %d characters", kind,
                name, value, SONAME_SIZE - 1);
    if (l->n == VERSION_LOCK_MAX)
        return err_set(err, -ENOSPC, "there are more than %d versions", (int)VERSION_LOCK_MAX);
    Version *v = &l->item[l->n++];
    (void)snprintf(v->kind, sizeof(v->kind), "%s", kind);
    (void)snprintf(v->name, sizeof(v->name), "%s", name);
    (void)snprintf(v->value, sizeof(v->value), "%s", value);
    return 0;
}

typedef struct Loading {
    VersionLock *lock;
    Err *err;
} Loading;

static int add_library(void *context, const char *soname, const char *id) {
    Loading *l = context;
    return version_lock_add(l->lock, "library", soname, id, l->err);
}

int version_lock_add_loaded(VersionLock *l, Err *err) {
    Loading loading = {.lock = l, .err = err};
    return build_id_walk(add_library, &loading);
}

/* The next word of a line; line moves behind it. NULL at the end. */
static char *next_word(char **line) {
    char *word = *line + strspn(*line, " \t\r");
    size_t n = strcspn(word, " \t\r");
    if (n == 0)
        return NULL;
    *line = word + n;
    if (**line) {
        **line = '\0';
        (*line)++;
    }
    return word;
}

static int parse_line(char *line, VersionLock *l, Err *err) {
    line[strcspn(line, "#")] = '\0';
    char *kind = next_word(&line);
    if (!kind)
        return 0;
    char *name = next_word(&line);
    char *value = name ? next_word(&line) : NULL;
    if (!value || next_word(&line))
        return err_set(err, -EINVAL, "it must be three words: kind, name, value");
    return version_lock_add(l, kind, name, value, err);
}

int version_lock_parse(const char *text, VersionLock *ret, Err *err) {
    VersionLock l = {0};
    for (int number = 1; *text; number++) {
        char line[256];
        size_t n = strcspn(text, "\n");
        if (n >= sizeof(line))
            return err_set(err, -EINVAL, "line %d has %zu bytes, %zu are allowed", number, n,
                    sizeof(line) - 1);
        memcpy(line, text, n);
        line[n] = '\0';
        int r = parse_line(line, &l, err);
        if (r < 0)
            return err_prefix(err, r, "line %d", number);
        text += n + (text[n] == '\n');
    }
    *ret = l;
    return 0;
}

void version_lock_print(const VersionLock *l, Buf *out) {
    for (size_t i = 0; i < l->n; i++)
        buf_printf(out, "%-8s %s %s\n", l->item[i].kind, l->item[i].name, l->item[i].value);
}

const char *version_lock_find(const VersionLock *l, const char *kind, const char *name) {
    for (size_t i = 0; i < l->n; i++)
        if (str_eq(l->item[i].kind, kind) && str_eq(l->item[i].name, name))
            return l->item[i].value;
    return NULL;
}

/* Number by number: 580.65 is at least 580 and 580.9, but not 580.65.6. */
static bool reaches(const char *found, const char *wanted) {
    while (*wanted) {
        char *f, *w;
        long long a = strtoll(found, &f, 10), b = strtoll(wanted, &w, 10);
        if (w == wanted) /* no number */
            return str_eq(found, wanted);
        if (f == found)
            a = 0;
        if (a != b)
            return a > b;
        found = f + (*f == '.');
        wanted = w + (*w == '.');
    }
    return true;
}

size_t version_lock_compare(const VersionLock *lock, const VersionLock *found, Buf *out) {
    size_t n = 0;
    for (size_t i = 0; i < lock->n; i++) {
        const Version *wanted = &lock->item[i];
        const Kind *kind = kind_find(wanted->kind);
        const char *value = version_lock_find(found, wanted->kind, wanted->name);
        if (!value && kind->optional)
            continue;
        if (value &&
                (kind->at_least ? reaches(value, wanted->value) : str_eq(value, wanted->value)))
            continue;
        buf_printf(out, "%s%s '%s' ", n ? "; " : "", wanted->kind, wanted->name);
        if (value)
            buf_printf(out, "has %s %s, wanted is %s%s", kind->value, value,
                    kind->at_least ? "at least " : "", wanted->value);
        else
            buf_printf(out, "is missing, wanted is %s %s", kind->value, wanted->value);
        n++;
    }
    return n;
}
