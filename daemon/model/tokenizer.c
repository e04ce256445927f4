#include "model/tokenizer.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "model/tokenizer-spm.h"

#include <errno.h>
#include <inttypes.h>

enum {
    N_EXTRA = 300, /* "<extra_id_0>" to "<extra_id_299>" */
    MAX_CONTROLS = 64,
};

static const char extra_prefix[] = "<extra_id_";

typedef struct Control {
    const char *text; /* borrowed from spm */
    size_t n;
    int32_t id;
} Control;

struct Tokenizer {
    TokenizerHabit habit;
    TokenizerSpm *spm;
    int32_t n_pieces, end, unknown;
    bool has_extra;
    Control controls[MAX_CONTROLS];
    size_t n_controls;
};

Tokenizer *tokenizer_free(Tokenizer *t) {
    if (!t)
        return NULL;
    tokenizer_spm_free(t->spm);
    free(t);
    return NULL;
}
DEFINE_CLEANUP(Tokenizer, tokenizer_free)

static void find_controls(Tokenizer *t) {
    for (int32_t id = 0; id < t->n_pieces && t->n_controls < MAX_CONTROLS; id++) {
        const char *text = tokenizer_spm_control_text(t->spm, id);
        if (text && *text)
            t->controls[t->n_controls++] = (Control){text, strlen(text), id};
    }
}

static int check_model(const Tokenizer *t, int64_t n_rows, Err *err) {
    if (t->end < 0 || t->unknown < 0)
        return err_set(err, -EBADMSG,
                "the tokenizer has end id %" PRId32 " and unknown id %" PRId32
                ", both must be there",
                t->end, t->unknown);
    if (t->n_pieces > n_rows)
        return err_set(err, -EINVAL,
                "the tokenizer has %" PRId32 " pieces, the text encoder's embedding has %" PRId64
                " rows",
                t->n_pieces, n_rows);
    if (!tokenizer_spm_adds_space(t->spm))
        return err_set(err, -EINVAL,
                "the tokenizer does not put a space in front of text, "
                "which umT5's does");
    return 0;
}

int tokenizer_new(const void *model, size_t n, int64_t n_rows, TokenizerHabit habit,
        Tokenizer **ret, Err *err) {
    if (n > TOKENIZER_MAX_MODEL)
        return err_set(err, -EFBIG, "the tokenizer has %zu bytes, at most %d are read", n,
                TOKENIZER_MAX_MODEL);
    _cleanup_(tokenizer_freep) Tokenizer *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, -ENOMEM, "no memory for the tokenizer");
    char reason[TOKENIZER_SPM_REASON];
    int r = tokenizer_spm_new(model, n, &t->spm, reason);
    if (r == -EBADMSG)
        return err_set(err, r, "the tokenizer is no SentencePiece model: %s", reason);
    if (r < 0)
        return err_set(err, r, "no memory for the tokenizer");
    t->habit = habit;
    t->n_pieces = tokenizer_spm_n_pieces(t->spm);
    t->end = tokenizer_spm_end_id(t->spm);
    t->unknown = tokenizer_spm_unknown_id(t->spm);
    t->has_extra = t->n_pieces + N_EXTRA <= n_rows;
    r = check_model(t, n_rows, err);
    if (r < 0)
        return r;
    find_controls(t);
    *ret = TAKE_PTR(t);
    return 0;
}

int32_t tokenizer_end_id(const Tokenizer *t) {
    return t->end;
}

int32_t tokenizer_unknown_id(const Tokenizer *t) {
    return t->unknown;
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
    *ret_id = t->n_pieces + N_EXTRA - 1 - k;
    return i + 1;
}

/* Bytes of a literal token at text, 0 when there is none. */
static size_t match_literal(const Tokenizer *t, const char *text, size_t n, int32_t *ret_id) {
    for (size_t i = 0; i < t->n_controls; i++) {
        const Control *c = &t->controls[i];
        if (c->n <= n && memcmp(text, c->text, c->n) == 0) {
            *ret_id = c->id;
            return c->n;
        }
    }
    return match_extra(t, text, n, ret_id);
}

/* Bytes of the space at text: a run of U+0020, or one U+2581, which stands for a space; 0 when
 * there is none. */
static size_t match_space(const char *text, size_t n) {
    size_t i = 0;
    while (i < n && text[i] == ' ')
        i++;
    if (i == 0 && n >= 3 && memcmp(text, "\u2581", 3) == 0)
        return 3;
    return i;
}

/* Bytes up to the next space or literal token. */
static size_t word_length(const Tokenizer *t, const char *text, size_t n) {
    int32_t id;
    size_t i = 0;
    while (i < n && match_space(text + i, n - i) == 0 &&
            match_literal(t, text + i, n - i, &id) == 0)
        i++;
    return i;
}

typedef struct Ids {
    int32_t *id;
    int64_t n, room;
} Ids;

static int put_word(const Tokenizer *t, Ids *to, const char *word, size_t n, Err *err) {
    if (n == 0) { /* a space with no word behind it */
        if (to->n < to->room)
            to->id[to->n++] = tokenizer_spm_space_id(t->spm);
        return 0;
    }
    int64_t found = tokenizer_spm_encode(t->spm, word, n, to->id + to->n, to->room - to->n);
    if (found < 0)
        return err_set(err, (int)found, "a word of %zu bytes could not be tokenised", n);
    to->n += found;
    return 0;
}

/* Text without literal tokens up to the next one; returns its bytes in *ret_used. */
static int put_text(
        const Tokenizer *t, Ids *to, const char *text, size_t n, size_t *ret_used, Err *err) {
    size_t i = 0;
    do {
        int32_t id;
        i += match_space(text + i, n - i);
        size_t word = word_length(t, text + i, n - i);
        int r = put_word(t, to, text + i, word, err);
        if (r < 0)
            return r;
        i += word;
        if (i < n && match_literal(t, text + i, n - i, &id) > 0)
            break;
    } while (i < n && to->n < to->room);
    *ret_used = i;
    return 0;
}

static int put_all(const Tokenizer *t, Ids *to, const char *text, size_t n, Err *err) {
    for (size_t i = 0, used; i < n && to->n < to->room; i += used) {
        int32_t id;
        used = match_literal(t, text + i, n - i, &id);
        if (used > 0) {
            to->id[to->n++] = id;
            continue;
        }
        int r = put_text(t, to, text + i, n - i, &used, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int put_plain(const Tokenizer *t, Ids *to, const char *text, size_t n, Err *err) {
    int64_t found = tokenizer_spm_encode_plain(t->spm, text, n, to->id, to->room);
    if (found < 0)
        return err_set(err, (int)found, "a text of %zu bytes could not be tokenised", n);
    to->n = found;
    return 0;
}

int tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int32_t ids[], int64_t room,
        int64_t *ret_n, Err *err) {
    assert(room >= 1);
    if (n > TOKENIZER_MAX_BYTES)
        return err_set(
                err, -E2BIG, "the text has %zu bytes, at most %d are read", n, TOKENIZER_MAX_BYTES);
    if ((n > 0 && memchr(text, 0, n)) || !str_is_utf8(text, n))
        return err_set(err, -EINVAL, "the text has a NUL or is not UTF-8");
    Ids to = {.id = ids, .room = room - 1};
    int r = t->habit == TOKENIZER_SENTENCEPIECE ? put_plain(t, &to, text, n, err)
                                                : put_all(t, &to, text, n, err);
    if (r < 0)
        return r;
    ids[to.n++] = t->end;
    *ret_n = to.n;
    return 0;
}
