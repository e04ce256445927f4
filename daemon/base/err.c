#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void mark_cut(char *text, size_t size, int wanted) {
    if (wanted >= 0 && (size_t)wanted >= size)
        memcpy(text + size - 4, "...", 4);
}

int err_set(Err *err, int code, const char *fmt, ...) {
    assert(code < 0);
    if (!err)
        return code;
    assert(err->code == 0);

    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    mark_cut(err->text, sizeof(err->text), n);
    err->code = code;
    return code;
}

int err_prefix(Err *err, int code, const char *fmt, ...) {
    assert(code < 0);
    if (!err)
        return code;

    char tail[sizeof(err->text)];
    memcpy(tail, err->text, sizeof(tail));
    if (err->code == 0)
        (void)snprintf(tail, sizeof(tail), "%s", strerror(-code)); /* strerror texts fit */

    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    mark_cut(err->text, sizeof(err->text), n);

    size_t used = strlen(err->text);
    n = snprintf(err->text + used, sizeof(err->text) - used, ": %s", tail);
    mark_cut(err->text, sizeof(err->text), n < 0 ? n : (int)used + n);
    err->code = code;
    return code;
}

void err_clear(Err *err) {
    if (!err)
        return;
    err->code = 0;
    err->text[0] = '\0';
}

const char *err_text(const Err *err) {
    if (!err || err->code == 0)
        return "no error";
    return err->text[0] ? err->text : strerror(-err->code);
}
