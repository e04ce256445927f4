#include "model/clean.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "model/entity.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <utf8proc.h>

/* The code point at text, which is well-formed; *ret_bytes is how many bytes it takes. */
static uint32_t code_at(const char *text, size_t n, size_t *ret_bytes) {
    utf8proc_int32_t code;
    utf8proc_ssize_t bytes =
            utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &code);
    assert(bytes > 0);
    *ret_bytes = (size_t)bytes;
    return (uint32_t)code;
}

/* Printable ASCII, tab, line feed and form feed: nothing below changes them. */
static bool is_plain(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x7F || (c < ' ' && c != '\t' && c != '\n' && c != '\f'))
            return false;
    }
    return true;
}

static const char *ligature(uint32_t code) {
    static const struct {
        uint16_t code;
        char text[5];
    } ligatures[] = {{0x132, "IJ"}, {0x133, "ij"}, {0x149, "\u02BCn"}, {0x1C4, "D\u017D"},
            {0x1C5, "D\u017E"}, {0x1C6, "d\u017E"}, {0x1C7, "LJ"}, {0x1C8, "Lj"}, {0x1C9, "lj"},
            {0x1CA, "NJ"}, {0x1CB, "Nj"}, {0x1CC, "nj"}, {0x1F1, "DZ"}, {0x1F2, "Dz"},
            {0x1F3, "dz"}, {0xFB00, "ff"}, {0xFB01, "fi"}, {0xFB02, "fl"}, {0xFB03, "ffi"},
            {0xFB04, "ffl"}, {0xFB05, "\u017Ft"}, {0xFB06, "st"}};
    for (size_t i = 0; i < ARRAY_LEN(ligatures); i++)
        if (ligatures[i].code == code)
            return ligatures[i].text;
    return NULL;
}

/* Full-width and half-width forms by their compatibility decomposition, curly quotes straight. */
static void put_folded(Buf *to, uint32_t code) {
    if (code == 0x3000) {
        entity_put(to, ' ');
    } else if (code >= 0xFF01 && code <= 0xFFEF) {
        utf8proc_int32_t parts[8];
        int last_class = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, parts,
                ARRAY_LEN(parts), UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE, &last_class);
        assert(n > 0 && (size_t)n <= ARRAY_LEN(parts));
        for (utf8proc_ssize_t i = 0; i < n; i++)
            entity_put(to, (uint32_t)parts[i]);
    } else if (code == 0x2BC || (code >= 0x2018 && code <= 0x201B)) {
        entity_put(to, '\'');
    } else if (code >= 0x201C && code <= 0x201F) {
        entity_put(to, '"');
    } else {
        entity_put(to, code);
    }
}

static void fold_characters(Buf *to, const char *text, size_t n) {
    for (size_t i = 0, bytes, part; i < n; i += bytes) {
        uint32_t code = code_at(text + i, n - i, &bytes);
        if (code >= 0x80 && code <= 0x9F)
            code = entity_from_windows(code);
        const char *letters = ligature(code);
        if (!letters)
            put_folded(to, code);
        for (size_t k = 0, m = letters ? strlen(letters) : 0; k < m; k += part)
            put_folded(to, code_at(letters + k, m - k, &part));
    }
}

/* Bytes of "ESC [ digits and semicolons, letter" at text, 0 when it is none. Digits of any script,
 * as in the reference. */
static size_t match_terminal_escape(const char *text, size_t n) {
    if (n < 3 || text[0] != '\033' || text[1] != '[')
        return 0;
    for (size_t i = 2, bytes; i < n; i += bytes) {
        uint32_t code = code_at(text + i, n - i, &bytes);
        if ((code | 0x20) >= 'a' && (code | 0x20) <= 'z')
            return i + 1;
        if (code != ';' && utf8proc_category((utf8proc_int32_t)code) != UTF8PROC_CATEGORY_ND)
            return 0;
    }
    return 0;
}

static bool is_removed_control(uint32_t code) {
    return code <= 0x08 || code == 0x0B || (code >= 0x0E && code <= 0x1F) || code == 0x7F ||
           (code >= 0x206A && code <= 0x206F) || code == 0xFEFF ||
           (code >= 0xFFF9 && code <= 0xFFFC);
}

static void fix_controls(Buf *to, const char *text, size_t n) {
    for (size_t i = 0, bytes; i < n; i += bytes) {
        bytes = match_terminal_escape(text + i, n - i);
        if (bytes > 0)
            continue;
        uint32_t code = code_at(text + i, n - i, &bytes);
        if (code == '\r') {
            entity_put(to, '\n');
            if (i + 1 < n && text[i + 1] == '\n')
                bytes = 2;
        } else if (code == 0x2028 || code == 0x2029) {
            entity_put(to, '\n');
        } else if (!is_removed_control(code)) {
            entity_put(to, code);
        }
    }
}

/* Well-formed text fails for want of memory only. */
static void compose(Buf *to, const char *text, size_t n) {
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t room = utf8proc_decompose(bytes, (utf8proc_ssize_t)n, NULL, 0, how);
    assert(room >= 0);
    /* One more: the bytes replace the code points in place, with a NUL behind them. */
    _cleanup_free_ utf8proc_int32_t *codes = malloc(((size_t)room + 1) * sizeof(*codes));
    if (!codes) {
        to->failed = true;
        return;
    }
    (void)utf8proc_decompose(bytes, (utf8proc_ssize_t)n, codes, room, how);
    utf8proc_ssize_t composed = utf8proc_reencode(codes, room, how);
    assert(composed >= 0);
    buf_append(to, codes, (size_t)composed);
}

typedef void Pass(Buf *to, const char *text, size_t n);

/* b becomes pass(b). */
static void apply(Buf *b, Pass *pass) {
    Buf to = {.failed = b->failed};
    if (!b->failed && b->size > 0)
        pass(&to, b->data, b->size);
    buf_done(b);
    *b = to;
}

/* One line with its line feed, until nothing changes. */
static void fix_line(Buf *to, const char *line, size_t n, bool references) {
    Buf text = {0}, before = {0};
    buf_append(&text, line, n);
    do {
        buf_done(&before);
        before = (Buf){0};
        buf_append(&before, text.data, text.size);
        if (references)
            apply(&text, entity_decode_sure);
        if (text.failed || before.failed || text.size == 0)
            break;
        if (!is_plain(text.data, text.size)) {
            apply(&text, fold_characters);
            apply(&text, fix_controls);
            apply(&text, compose);
        }
    } while (!text.failed && text.size > 0 &&
             (text.size != before.size || memcmp(text.data, before.data, text.size) != 0));
    if (text.failed || before.failed)
        to->failed = true;
    else if (text.size > 0)
        buf_append(to, text.data, text.size);
    buf_done(&text);
    buf_done(&before);
}

static void fix_text(Buf *to, const char *text, size_t n) {
    bool references = true;
    for (size_t i = 0; i < n;) {
        const char *end = memchr(text + i, '\n', n - i);
        size_t bytes = end ? (size_t)(end - text) + 1 - i : n - i;
        if (memchr(text + i, '<', bytes))
            references = false; /* and for all lines that follow */
        fix_line(to, text + i, bytes, references);
        i += bytes;
    }
}

/* White space as Python's str.isspace() and \s know it. */
static bool is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
           code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

static void collapse_space(Buf *to, const char *text, size_t n) {
    bool space = false;
    for (size_t i = 0, bytes; i < n; i += bytes) {
        uint32_t code = code_at(text + i, n - i, &bytes);
        if (is_space(code)) {
            space = true;
            continue;
        }
        if (space && to->size > 0)
            buf_append(to, " ", 1);
        space = false;
        buf_append(to, text + i, bytes);
    }
}

int clean_prompt(const char *text, size_t n, char **ret, Err *err) {
    if (n > CLEAN_MAX_BYTES)
        return err_set(
                err, -EINVAL, "the prompt has %zu bytes, at most %d are read", n, CLEAN_MAX_BYTES);
    if (n > 0 && memchr(text, 0, n))
        return err_set(err, -EINVAL, "the prompt has a NUL at byte %zu",
                (size_t)((const char *)memchr(text, 0, n) - text));
    if (!str_is_utf8(text, n))
        return err_set(err, -EINVAL, "the prompt is not UTF-8");

    Buf b = {0};
    buf_append(&b, text, n);
    apply(&b, fix_text);
    apply(&b, entity_decode);
    apply(&b, entity_decode);
    apply(&b, collapse_space);
    buf_append(&b, "", 0); /* an empty text is a string, too */
    char *clean = buf_take(&b);
    buf_done(&b);
    if (!clean)
        return err_set(err, -ENOMEM, "no memory for a prompt of %zu bytes", n);
    *ret = clean;
    return 0;
}
