#include "model/tokenizer.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "model/charsmap.h"
#include "model/unigram.h"

#include <errno.h>
#include <inttypes.h>

enum {
    N_EXTRA = 300, /* "<extra_id_0>" to "<extra_id_299>" */
    MAX_CONTROLS = 64,
};

static const char extra_prefix[] = "<extra_id_";
static const char space[] = "\u2581"; /* how a vocabulary writes it */

enum { SPACE_BYTES = sizeof(space) - 1 };

struct Tokenizer {
    char *model; /* the file's bytes; what is below points into them */
    Spiece spiece;
    Charsmap charsmap;
    Unigram *unigram;
    TokenizerHabit habit;
    bool has_extra;
    int32_t controls[MAX_CONTROLS]; /* ids whose text stands for them */
    size_t n_controls;
};

Tokenizer *tokenizer_free(Tokenizer *t) {
    if (!t)
        return NULL;
    unigram_free(t->unigram);
    spiece_done(&t->spiece);
    free(t->model);
    free(t);
    return NULL;
}
DEFINE_CLEANUP(Tokenizer, tokenizer_free)

static void find_controls(Tokenizer *t) {
    for (int32_t id = 0; id < t->spiece.n_pieces && t->n_controls < MAX_CONTROLS; id++) {
        PieceType type = t->spiece.pieces[id].type;
        if (type == PIECE_CONTROL || type == PIECE_UNKNOWN)
            t->controls[t->n_controls++] = id;
    }
}

static int read_model(Tokenizer *t, size_t n, int64_t n_rows, Err *err) {
    int r = spiece_parse(t->model, n, &t->spiece, err);
    if (r == 0)
        r = charsmap_parse(t->spiece.charsmap, t->spiece.charsmap_bytes, &t->charsmap, err);
    if (r == 0 && t->spiece.n_pieces > n_rows)
        r = err_set(err, -EINVAL,
                "it has %" PRId32 " pieces, the text encoder's embedding has %" PRId64 " rows",
                t->spiece.n_pieces, n_rows);
    if (r == 0)
        r = unigram_new(&t->spiece,
                t->habit == TOKENIZER_SENTENCEPIECE ? UNIGRAM_SENTENCEPIECE : UNIGRAM_HUGGING_FACE,
                &t->unigram, err);
    return r;
}

int tokenizer_new(const void *model, size_t n, int64_t n_rows, TokenizerHabit habit,
        Tokenizer **ret, Err *err) {
    _cleanup_(tokenizer_freep) Tokenizer *t = calloc(1, sizeof(*t));
    if (n > SPIECE_MAX_FILE)
        return err_set(err, -EBADMSG, "tokenizer: it has %zu bytes, at most %d are read", n,
                SPIECE_MAX_FILE);
    if (t)
        t->model = malloc(n + 1);
    if (!t || !t->model)
        return err_set(err, -ENOMEM, "no memory for a tokenizer of %zu bytes", n);
    memcpy(t->model, model, n);
    t->habit = habit;
    int r = read_model(t, n, n_rows, err);
    if (r < 0)
        return err_prefix(err, r, "tokenizer");
    t->has_extra = t->spiece.n_pieces + N_EXTRA <= n_rows;
    find_controls(t);
    *ret = TAKE_PTR(t);
    return 0;
}

int32_t tokenizer_end_id(const Tokenizer *t) {
    return t->spiece.end;
}

int32_t tokenizer_unknown_id(const Tokenizer *t) {
    return t->spiece.unknown;
}

/* Bytes of "<extra_id_k>" at text, 0 when it is none. */
static size_t match_extra(const Tokenizer *t, const char *text, size_t n, int32_t *ret_id) {
    size_t i = sizeof(extra_prefix) - 1, start = i;
    if (!t->has_extra || n <= i || memcmp(text, extra_prefix, i) != 0)
        return 0;
    int32_t k = 0;
    for (; i < n && text[i] >= '0' && text[i] <= '9' && k < N_EXTRA; i++)
        k = 10 * k + (text[i] - '0');
    bool padded = text[start] == '0' && i > start + 1;
    if (i == start || i == n || text[i] != '>' || k >= N_EXTRA || padded)
        return 0;
    *ret_id = t->spiece.n_pieces + N_EXTRA - 1 - k;
    return i + 1;
}

/* Bytes of a literal token at text, 0 when there is none. */
static size_t match_literal(const Tokenizer *t, const char *text, size_t n, int32_t *ret_id) {
    for (size_t i = 0; i < t->n_controls; i++) {
        const Piece *p = &t->spiece.pieces[t->controls[i]];
        if (p->n <= n && memcmp(text, p->text, p->n) == 0) {
            *ret_id = t->controls[i];
            return p->n;
        }
    }
    return match_extra(t, text, n, ret_id);
}

static bool is_space(const char *text, size_t n) {
    return n >= SPACE_BYTES && memcmp(text, space, SPACE_BYTES) == 0;
}

/* Text as the vocabulary is written: mapped, spaces in a row one, one in front. */
static void escape(const Tokenizer *t, Buf *to, const char *text, size_t n) {
    Buf mapped = {0};
    charsmap_apply(&t->charsmap, &mapped, text, n);
    to->failed |= mapped.failed;
    bool plain = t->habit == TOKENIZER_SENTENCEPIECE;
    bool trim = plain && t->spiece.trims_spaces, squeeze = trim || !plain;
    size_t i = 0, end = mapped.size;
    while (trim && i < end && mapped.data[i] == ' ')
        i++;
    while (trim && end > i && mapped.data[end - 1] == ' ')
        end--;
    bool has_space =
            !plain && i < end && (mapped.data[i] == ' ' || is_space(mapped.data + i, end - i));
    if (i < end && !has_space)
        buf_append(to, space, SPACE_BYTES);
    for (size_t start = i; i < end; i++) {
        if (mapped.data[i] != ' ')
            buf_append(to, &mapped.data[i], 1);
        else if (!squeeze || i == start || mapped.data[i - 1] != ' ')
            buf_append(to, space, SPACE_BYTES);
    }
    buf_done(&mapped);
}

typedef struct Ids {
    int32_t *id;
    int64_t n, room;
} Ids;

/* Text without literal tokens. */
static int put_text(const Tokenizer *t, Ids *to, const char *text, size_t n) {
    Buf escaped = {0};
    int64_t r = 0;
    escape(t, &escaped, text, n);
    if (escaped.failed)
        r = -ENOMEM;
    for (size_t start = 0, end; r >= 0 && start < escaped.size && to->n < to->room; start = end) {
        end = t->habit == TOKENIZER_SENTENCEPIECE ? escaped.size : start + 1;
        while (end < escaped.size && !is_space(escaped.data + end, escaped.size - end))
            end++;
        r = unigram_encode(
                t->unigram, escaped.data + start, end - start, to->id + to->n, to->room - to->n);
        to->n += r > 0 ? r : 0;
    }
    buf_done(&escaped);
    return r < 0 ? (int)r : 0;
}

int tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int32_t ids[], int64_t room,
        int64_t *ret_n, Err *err) {
    assert(room >= 1);
    if (n > TOKENIZER_MAX_BYTES)
        return err_set(err, -EINVAL, "the text has %zu bytes, at most %d are read", n,
                TOKENIZER_MAX_BYTES);
    if ((n > 0 && memchr(text, 0, n)) || !str_is_utf8(text, n))
        return err_set(err, -EINVAL, "the text has a NUL or is not UTF-8");
    Ids to = {.id = ids, .room = room - 1};
    bool literals = t->habit == TOKENIZER_HUGGING_FACE;
    for (size_t i = 0; i < n && to.n < to.room;) {
        int32_t id = -1;
        size_t end = literals ? i : n, literal = 0;
        while (end < n && (literal = match_literal(t, text + end, n - end, &id)) == 0)
            end++;
        if (put_text(t, &to, text + i, end - i) < 0)
            return err_set(err, -ENOMEM, "no memory for a text of %zu bytes", n);
        if (literal > 0 && to.n < to.room)
            to.id[to.n++] = id;
        i = end + literal;
    }
    ids[to.n++] = t->spiece.end;
    *ret_n = to.n;
    return 0;
}
