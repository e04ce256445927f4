#include "model/spiece.h"

#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* One field of a message: a number, four bytes, or a text, as its wire type says. */
typedef struct Field {
    uint32_t number;
    enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 } wire;
    uint64_t value;
    const char *text;
    size_t n;
} Field;

typedef struct Reader {
    const uint8_t *at, *end;
} Reader;

static bool read_varint(Reader *r, uint64_t *ret) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool read_bytes(Reader *r, uint64_t n, const char **ret) {
    if (n > (uint64_t)(r->end - r->at))
        return false;
    *ret = (const char *)r->at;
    r->at += n;
    return true;
}

/* Returns 1; 0 at the message's end; -EBADMSG. */
static int read_field(Reader *r, Field *f) {
    uint64_t key;
    if (r->at == r->end)
        return 0;
    *f = (Field){0};
    if (!read_varint(r, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX)
        return -EBADMSG;
    f->number = (uint32_t)(key >> 3);
    f->wire = key & 7;
    bool good = false;
    if (f->wire == WIRE_VARINT)
        good = read_varint(r, &f->value);
    else if (f->wire == WIRE_BYTES)
        good = read_varint(r, &f->value) && read_bytes(r, f->value, &f->text);
    else if (f->wire == WIRE_64 || f->wire == WIRE_32)
        good = read_bytes(r, f->wire == WIRE_64 ? 8 : 4, &f->text);
    f->n = f->wire == WIRE_BYTES ? (size_t)f->value : 0;
    return good ? 1 : -EBADMSG;
}

static Reader reader_of(const void *data, size_t n) {
    return (Reader){data, (const uint8_t *)data + n};
}

/* What spiece_parse() gathers beside the result. */
typedef struct Settings {
    uint64_t kind, space_in_front, space_trimmed, space_escaped, space_as_suffix, byte_fallback;
    const char *end_text;
    size_t end_n;
    size_t room; /* of pieces */
} Settings;

static int parse_piece(const Field *message, Piece *p) {
    Reader r = reader_of(message->text, message->n);
    Field f;
    int more;
    *p = (Piece){.type = PIECE_NORMAL};
    while ((more = read_field(&r, &f)) > 0) {
        if (f.number == 1 && f.wire == WIRE_BYTES) {
            if (f.n > SPIECE_MAX_TEXT)
                return -EBADMSG;
            p->text = f.text;
            p->n = (uint32_t)f.n;
        } else if (f.number == 2 && f.wire == WIRE_32) {
            memcpy(&p->score, f.text, sizeof(p->score)); /* little-endian, as we are */
        } else if (f.number == 3 && f.wire == WIRE_VARINT) {
            if (f.value < PIECE_NORMAL || f.value > PIECE_BYTE)
                return -EBADMSG;
            p->type = (PieceType)f.value;
        }
    }
    if (more < 0 || p->n == 0 || !isfinite(p->score) || !str_is_utf8(p->text, p->n))
        return -EBADMSG;
    return 0;
}

static int add_piece(Spiece *s, Settings *set, const Field *message, Err *err) {
    if (s->n_pieces == SPIECE_MAX_PIECES)
        return err_set(err, -EBADMSG, "it has more than %d pieces", SPIECE_MAX_PIECES);
    if ((size_t)s->n_pieces == set->room) {
        size_t room = set->room ? 2 * set->room : 1024;
        Piece *pieces = reallocarray(s->pieces, room, sizeof(*pieces));
        if (!pieces)
            return err_set(err, -ENOMEM, "no memory for %zu pieces", room);
        s->pieces = pieces;
        set->room = room;
    }
    if (parse_piece(message, &s->pieces[s->n_pieces]) < 0)
        return err_set(err, -EBADMSG,
                "piece %" PRId32
                " is damaged: wanted are a type from 1 to 6, a finite score and 1 to "
                "%d bytes of UTF-8",
                s->n_pieces, SPIECE_MAX_TEXT);
    s->n_pieces++;
    return 0;
}

static int parse_training(Settings *set, const Field *message) {
    Reader r = reader_of(message->text, message->n);
    Field f;
    int more;
    while ((more = read_field(&r, &f)) > 0) {
        if (f.number == 3 && f.wire == WIRE_VARINT)
            set->kind = f.value;
        else if (f.number == 24 && f.wire == WIRE_VARINT)
            set->space_as_suffix = f.value;
        else if (f.number == 35 && f.wire == WIRE_VARINT)
            set->byte_fallback = f.value;
        else if (f.number == 47 && f.wire == WIRE_BYTES) {
            set->end_text = f.text;
            set->end_n = f.n;
        }
    }
    return more;
}

static int parse_normaliser(Spiece *s, Settings *set, const Field *message) {
    Reader r = reader_of(message->text, message->n);
    Field f;
    int more;
    while ((more = read_field(&r, &f)) > 0) {
        if (f.number == 2 && f.wire == WIRE_BYTES) {
            s->charsmap = f.n > 0 ? f.text : NULL;
            s->charsmap_bytes = f.n;
        } else if (f.number == 3 && f.wire == WIRE_VARINT) {
            set->space_in_front = f.value;
        } else if (f.number == 4 && f.wire == WIRE_VARINT) {
            set->space_trimmed = f.value;
        } else if (f.number == 5 && f.wire == WIRE_VARINT) {
            set->space_escaped = f.value;
        }
    }
    return more;
}

static int parse_fields(Spiece *s, Settings *set, Reader r, Err *err) {
    Field f;
    int more;
    while ((more = read_field(&r, &f)) > 0) {
        int result = 0;
        if (f.number == 1 && f.wire == WIRE_BYTES)
            result = add_piece(s, set, &f, err);
        else if (f.number == 2 && f.wire == WIRE_BYTES && parse_training(set, &f) < 0)
            result = err_set(err, -EBADMSG, "its training settings are damaged");
        else if (f.number == 3 && f.wire == WIRE_BYTES && parse_normaliser(s, set, &f) < 0)
            result = err_set(err, -EBADMSG, "its normaliser is damaged");
        if (result < 0)
            return result;
    }
    return more < 0 ? err_set(err, -EBADMSG, "it ends within a field, or is no such file") : 0;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that a piece "<0xAB>" of type BYTE stands for, -1 when its text is another. */
static int byte_of(const Piece *p) {
    if (p->type != PIECE_BYTE || p->n != 6 || memcmp(p->text, "<0x", 3) != 0 || p->text[5] != '>')
        return -1;
    int high = hex_digit(p->text[3]), low = hex_digit(p->text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static int find_bytes(Spiece *s, Err *err) {
    int found = 0;
    for (int32_t id = 0; id < s->n_pieces; id++) {
        int byte = byte_of(&s->pieces[id]);
        if (byte >= 0) {
            s->bytes[byte] = id;
            found++;
        }
    }
    return found == 256 ? 0
                        : err_set(err, -EBADMSG, "it has %d byte pieces, wanted are 256", found);
}

static int check(Spiece *s, const Settings *set, Err *err) {
    for (int32_t id = s->n_pieces - 1; id >= 0; id--) {
        const Piece *p = &s->pieces[id];
        if (p->type == PIECE_UNKNOWN)
            s->unknown = id;
        if (p->type == PIECE_CONTROL && p->n == set->end_n &&
                memcmp(p->text, set->end_text, p->n) == 0)
            s->end = id;
    }
    if (s->unknown < 0 || s->end < 0)
        return err_set(err, -EBADMSG, "among its %" PRId32 " pieces is no %s piece", s->n_pieces,
                s->unknown < 0 ? "unknown" : "end");
    if (set->kind != 1)
        return err_set(err, -EINVAL, "its kind is %" PRIu64 ", it must be 1, unigram", set->kind);
    if (!set->space_in_front || !set->space_escaped || set->space_as_suffix)
        return err_set(err, -EINVAL,
                "it does not put a space, written U+2581, in front of words, as umT5's does");
    s->trims_spaces = set->space_trimmed;
    s->bytes[0] = -1;
    return set->byte_fallback ? find_bytes(s, err) : 0;
}

int spiece_parse(const void *data, size_t n, Spiece *ret, Err *err) {
    static const char default_end[] = "</s>";
    Spiece s = {.unknown = -1, .end = -1};
    Settings set = {.kind = 1,
            .space_in_front = 1,
            .space_trimmed = 1,
            .space_escaped = 1,
            .end_text = default_end,
            .end_n = sizeof(default_end) - 1};
    if (n > SPIECE_MAX_FILE)
        return err_set(err, -EBADMSG, "it has %zu bytes, at most %d are read", n, SPIECE_MAX_FILE);
    int r = parse_fields(&s, &set, reader_of(data, n), err);
    if (r == 0)
        r = check(&s, &set, err);
    if (r < 0)
        spiece_done(&s);
    else
        *ret = s;
    return r;
}

void spiece_done(Spiece *s) {
    free(s->pieces);
    *s = (Spiece){0};
}
