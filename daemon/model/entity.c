#include "model/entity.h"

#include "model/entity-impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    CODE_MAX = 0x10FFFF,
    CODE_REPLACEMENT = 0xFFFD,
    MAX_NAME = 32, /* characters of a name that html.unescape looks at */
};

void entity_put(Buf *to, uint32_t code) {
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)code, bytes);
    buf_append(to, bytes, (size_t)n);
}

static int compare_name(const void *key, const void *entry) {
    return strcmp(key, ((const Entity *)entry)->name);
}

static const Entity *find(const char *name, size_t n) {
    char key[ENTITY_MAX_NAME + 1];
    if (n > ENTITY_MAX_NAME)
        return NULL;
    memcpy(key, name, n);
    key[n] = 0;
    return bsearch(key, entity_table, ENTITY_COUNT, sizeof(Entity), compare_name);
}

static void put_entity(Buf *to, const Entity *e) {
    entity_put(to, e->code);
    if (e->second)
        entity_put(to, e->second);
}

/* The number of a reference, as HTML 5 maps it; saturates. digits is not empty. */
static uint32_t parse_number(const char *digits, size_t n, unsigned base) {
    uint64_t code = 0;
    for (size_t i = 0; i < n; i++) {
        char c = digits[i];
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
        code = code * base + digit;
        if (code > CODE_MAX)
            code = CODE_MAX + 1;
    }
    return (uint32_t)code;
}

/* Code points that are no characters. */
static bool is_invalid(uint32_t code) {
    return (code >= 0x1 && code <= 0x8) || code == 0xB || (code >= 0xE && code <= 0x1F) ||
           (code >= 0x7F && code <= 0x9F) || (code >= 0xFDD0 && code <= 0xFDEF) ||
           (code & 0xFFFE) == 0xFFFE;
}

uint32_t entity_from_windows(uint32_t code) {
    static const uint16_t windows[32] = {0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020,
            0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D, 0x8F, 0x90, 0x2018, 0x2019,
            0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D,
            0x17E, 0x178};
    assert(code >= 0x80 && code <= 0x9F);
    return windows[code - 0x80];
}

static void put_number(Buf *to, uint32_t code) {
    if (code >= 0x80 && code <= 0x9F)
        entity_put(to, entity_from_windows(code));
    else if (code == 0 || (code >= 0xD800 && code <= 0xDFFF) || code > CODE_MAX)
        entity_put(to, CODE_REPLACEMENT);
    else if (!is_invalid(code))
        entity_put(to, code);
}

/* Bytes of "#123" or "#x7b" at the start of text, 0 when it is neither; *ret_code is its number. */
static size_t match_number(const char *text, size_t n, uint32_t *ret_code) {
    if (n < 2 || text[0] != '#')
        return 0;
    bool hex = text[1] == 'x' || text[1] == 'X';
    size_t start = hex ? 2 : 1, i = start;
    while (i < n && (hex ? isxdigit((unsigned char)text[i]) : isdigit((unsigned char)text[i])))
        i++;
    if (i == start)
        return 0;
    *ret_code = parse_number(text + start, i - start, hex ? 16 : 10);
    return i;
}

/* Bytes of the name at the start of text: up to 32 characters. */
static size_t match_name(const char *text, size_t n) {
    size_t i = 0;
    for (int chars = 0; i < n && chars < MAX_NAME; chars++) {
        if (strchr("\t\n\f <&#;", text[i]))
            break;
        do
            i++;
        while (i < n && ((unsigned char)text[i] & 0xC0) == 0x80);
    }
    return i;
}

/* Decodes what stands after an '&'; returns the bytes it took, 0 when it is no reference. */
static size_t decode_one(Buf *to, const char *text, size_t n) {
    uint32_t code;
    size_t used = match_number(text, n, &code);
    if (used > 0) {
        put_number(to, code);
        return used + (used < n && text[used] == ';');
    }
    size_t name = match_name(text, n);
    const Entity *e = find(text, name);
    bool semicolon = name < n && text[name] == ';';
    if (e && (semicolon || e->bare)) {
        put_entity(to, e);
        return name + semicolon;
    }
    for (size_t k = name; k >= 2; k--) {
        e = find(text, k);
        if (e && e->bare) {
            put_entity(to, e);
            return k;
        }
    }
    return 0;
}

typedef size_t Decoder(Buf *to, const char *text, size_t n);

static void decode_all(Buf *to, const char *text, size_t n, Decoder *decode) {
    size_t done = 0;
    while (done < n) {
        const char *amp = memchr(text + done, '&', n - done);
        size_t plain = amp ? (size_t)(amp - text) - done : n - done;
        buf_append(to, text + done, plain);
        done += plain;
        if (!amp)
            break;
        size_t used = decode(to, amp + 1, n - done - 1);
        if (used == 0)
            buf_append(to, "&", 1);
        done += 1 + used;
    }
}

void entity_decode(Buf *to, const char *text, size_t n) {
    decode_all(to, text, n, decode_one);
}

/* The capital of one code point; of "ß" and the ligatures it is more than one. */
static void put_capital(Buf *to, uint32_t code) {
    static const struct {
        uint16_t code;
        char capitals[5];
    } longer[] = {{0xDF, "SS"}, {0x149, "\u02BCN"}, {0xFB00, "FF"}, {0xFB01, "FI"}, {0xFB02, "FL"},
            {0xFB03, "FFI"}, {0xFB04, "FFL"}};
    for (size_t i = 0; i < ARRAY_LEN(longer); i++)
        if (longer[i].code == code) {
            buf_append(to, longer[i].capitals, strlen(longer[i].capitals));
            return;
        }
    entity_put(to, (uint32_t)utf8proc_toupper((utf8proc_int32_t)code));
}

/* "EACUTE": not a name, nor does one that needs no semicolon begin it, but its small form is one.
 */
static bool put_in_capitals(Buf *to, const char *name, size_t n) {
    char small[ENTITY_MAX_NAME + 1];
    if (n > ENTITY_MAX_NAME)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (islower((unsigned char)name[i]))
            return false;
        small[i] = (char)tolower((unsigned char)name[i]);
    }
    const Entity *e = find(small, n);
    if (!e)
        return false;
    for (size_t k = 2; k <= n; k++) {
        const Entity *begin = find(name, k);
        if (begin && begin->bare)
            return false;
    }
    put_capital(to, e->code);
    if (e->second)
        put_capital(to, e->second);
    return true;
}

static size_t decode_one_sure(Buf *to, const char *text, size_t n) {
    enum { MAX_SURE = 24 };
    size_t start = n > 0 && text[0] == '#', end = start;
    while (end < n && end - start < MAX_SURE && isalnum((unsigned char)text[end]))
        end++;
    if (end == start || end == n || text[end] != ';')
        return 0;
    if (start == 0) {
        const Entity *e = find(text, end);
        if (e)
            put_entity(to, e);
        return e || put_in_capitals(to, text, end) ? end + 1 : 0;
    }
    uint32_t code;
    if (match_number(text, n, &code) != end || code == ';')
        return 0;
    put_number(to, code);
    return end + 1;
}

void entity_decode_sure(Buf *to, const char *text, size_t n) {
    decode_all(to, text, n, decode_one_sure);
}
