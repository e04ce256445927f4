#include "test.h"

#include "base/err.h"
#include "base/io.h"
#include "base/macro.h"
#include "model/spiece.h"
#include "model/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Both tables were made with tokenizers 0.23.3: Unigram over the pieces of the model file, without
 * byte fallback, the model's own normaliser and runs of spaces made one, Metaspace "always", the
 * control pieces (and for the second 300 extra ids, as T5 has them) as special tokens, end id
 * appended. */
typedef struct Case {
    const char *text;
    int64_t n;
    int32_t ids[16];
} Case;

/* clang-format off */
static const Case tiny_cases[] = {
    {"", 1, {1}},
    {"a red circle moving right on a black background", 10, {259, 286, 268, 262, 275, 261, 259, 273, 260, 1}},
    {"a large yellow square moving up on a gray background", 11, {259, 267, 282, 264, 262, 280, 261, 259, 271, 260, 1}},
    {"zzz 猫猫 q", 9, {290, 1010, 1010, 1010, 290, 2, 290, 1022, 1}},
    {"😀", 3, {290, 2, 1}},
    {"a </s> b", 5, {259, 290, 1, 452, 1}},
    {"<extra_id_0>", 14, {290, 1006, 298, 483, 302, 341, 313, 2, 314, 307, 2, 448, 988, 1}},
    {"ＡＢ ﬁ", 6, {353, 846, 290, 355, 314, 1}},
};

/* unigram-identity.model: 306 pieces, ids as umT5's (unknown 3, <s> 2), no normaliser; trained with
 * sentencepiece 0.2.3 on sentences of fourteen words. */
static const Case identity_cases[] = {
    {"", 1, {1}},
    {" ", 2, {304, 1}},
    {"red", 2, {272, 1}},
    {"red circle", 3, {272, 264, 1}},
    {"red  circle", 3, {272, 264, 1}},
    {" red ", 3, {272, 304, 1}},
    {"redcircle", 8, {272, 303, 295, 301, 303, 299, 300, 1}},
    {"Привет, мир", 4, {262, 273, 269, 1}},
    {"猫が 窓辺に", 3, {260, 267, 1}},
    {"x7 猫Ωж😀 red😀", 8, {304, 3, 304, 287, 3, 272, 3, 1}},
    {"</s>", 2, {1, 1}},
    {"a </s> red", 5, {271, 304, 1, 272, 1}},
    {"</s></s> ", 4, {1, 1, 304, 1}},
    {"<pad><s><unk>", 4, {0, 2, 3, 1}},
    {"red<extra_id_0>red", 4, {272, 605, 272, 1}},
    {"<extra_id_299>", 2, {306, 1}},
    {"<extra_id_300>", 11, {304, 3, 300, 3, 301, 302, 3, 295, 289, 3, 1}},
    {"<extra_id_07>", 11, {304, 3, 300, 3, 301, 302, 3, 295, 289, 3, 1}},
    {"<extra_id_>", 11, {304, 3, 300, 3, 301, 302, 3, 295, 289, 3, 1}},
    {"▁▁red▁", 4, {304, 272, 304, 1}},
    {"▁ red", 3, {304, 272, 1}},
    {"<", 3, {304, 3, 1}},
    {"red .", 3, {272, 270, 1}},
};
/* clang-format on */

enum { IDENTITY_PIECES = 306, N_EXTRA = 300 };

static char *read_model(const char *path, size_t *ret_n) {
    char *data = NULL;
    Err err = {0};
    if (io_read_file(AT_FDCWD, path, SPIECE_MAX_FILE, &data, ret_n, &err) < 0)
        fail_msg("%s", err_text(&err));
    return data;
}

static Tokenizer *open_habit(const char *path, int64_t n_rows, TokenizerHabit habit) {
    size_t n;
    char *data = read_model(path, &n);
    Tokenizer *t = NULL;
    Err err = {0};
    if (tokenizer_new(data, n, n_rows, habit, &t, &err) < 0)
        fail_msg("%s", err_text(&err));
    free(data); /* nothing of it is kept */
    return t;
}

static Tokenizer *open_model(const char *path, int64_t n_rows) {
    return open_habit(path, n_rows, TOKENIZER_HUGGING_FACE);
}

static void check(const Tokenizer *t, const Case cases[], size_t n_cases) {
    for (size_t i = 0; i < n_cases; i++) {
        int32_t ids[16];
        int64_t n = -1;
        assert_int_equal(
                tokenizer_encode(t, cases[i].text, strlen(cases[i].text), ids, 16, &n, NULL), 0);
        assert_int_equal(n, cases[i].n);
        assert_memory_equal(ids, cases[i].ids, (size_t)n * sizeof(ids[0]));
    }
}

static void ids_are_the_references(void **state) {
    Tokenizer *t = open_model(TINY_WAN "/tokenizer/spiece.model", 1024);
    assert_int_equal(tokenizer_end_id(t), 1);
    assert_int_equal(tokenizer_unknown_id(t), 2);
    check(t, tiny_cases, ARRAY_LEN(tiny_cases));
    tokenizer_free(t);

    t = open_model(IDENTITY_MODEL, IDENTITY_PIECES + N_EXTRA);
    assert_int_equal(tokenizer_end_id(t), 1);
    assert_int_equal(tokenizer_unknown_id(t), 3);
    check(t, identity_cases, ARRAY_LEN(identity_cases));
    tokenizer_free(t);
}

/* As the Python package sentencepiece 0.2.2 encodes with the same model file: byte pieces, spaces
 * folded, nothing literal. */
static void plain_ids_are_the_librarys(void **state) {
    static const Case cases[] = {
            {"a red circle moving right on a black background", 10,
                    {259, 286, 268, 262, 275, 261, 259, 273, 260, 1}},
            {"", 1, {1}},
            {" a  red\tcircle ", 4, {259, 286, 268, 1}},
            {"\u00fc \u732b", 8, {290, 198, 191, 290, 234, 143, 174, 1}},
            {"RED2", 4, {849, 393, 1017, 1}},
            {"</s>", 6, {290, 1006, 410, 291, 988, 1}},
    };
    Tokenizer *t = open_habit(TINY_WAN "/tokenizer/spiece.model", 1024, TOKENIZER_SENTENCEPIECE);
    check(t, cases, ARRAY_LEN(cases));
    int32_t ids[3];
    int64_t n;
    assert_int_equal(tokenizer_encode(t, "a red circle", 12, ids, 3, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_int_equal(ids[2], 1);
    tokenizer_free(t);
}

/* No id may reach the embedding's end, so too few rows for all extra ids means none of them. */
static void extra_ids_need_their_rows(void **state) {
    Tokenizer *t = open_model(IDENTITY_MODEL, IDENTITY_PIECES + N_EXTRA - 1);
    int32_t ids[16];
    int64_t n;
    assert_int_equal(tokenizer_encode(t, "<extra_id_0>", 12, ids, 16, &n, NULL), 0);
    assert_int_equal(n, 11);
    for (int64_t i = 0; i < n; i++)
        assert_true(ids[i] < IDENTITY_PIECES);
    tokenizer_free(t);
}

static void long_text_is_cut(void **state) {
    Tokenizer *t = open_model(IDENTITY_MODEL, IDENTITY_PIECES);
    static char text[TOKENIZER_MAX_BYTES];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = "red "[i % 4];
    for (int64_t room = 1; room < 600; room += 73) {
        int32_t ids[600] = {0}, behind = -7;
        int64_t n;
        ids[room] = behind;
        assert_int_equal(tokenizer_encode(t, text, sizeof(text), ids, room, &n, NULL), 0);
        assert_int_equal(n, room);
        for (int64_t i = 0; i < room - 1; i++)
            assert_int_equal(ids[i], 272);
        assert_int_equal(ids[room - 1], 1);
        assert_int_equal(ids[room], behind);
    }
    /* Literal tokens and single spaces are cut, too; one word that is too long for the room as
     * well. */
    static const char *const others[] = {
            "</s></s></s></s>", "\u2581\u2581\u2581\u2581", "abcdefgh"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        int32_t ids[4] = {0, 0, 0, -7};
        int64_t n;
        assert_int_equal(tokenizer_encode(t, others[i], strlen(others[i]), ids, 3, &n, NULL), 0);
        assert_int_equal(n, 3);
        assert_int_equal(ids[2], 1);
        assert_int_equal(ids[3], -7);
    }
    tokenizer_free(t);
}

static void bad_text_is_refused(void **state) {
    Tokenizer *t = open_model(IDENTITY_MODEL, IDENTITY_PIECES);
    static char big[TOKENIZER_MAX_BYTES + 1];
    memset(big, 'a', sizeof(big));
    static const struct {
        const char *text;
        size_t n;
        int r;
        const char *sentence;
    } cases[] = {
            {"a\0b", 3, -EINVAL, "the text has a NUL or is not UTF-8"},
            {"\xc3", 1, -EINVAL, "the text has a NUL or is not UTF-8"},
            {big, sizeof(big), -EINVAL, "the text has 393217 bytes, at most 393216 are read"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int32_t ids[4];
        int64_t n = -7;
        Err err = {0};
        assert_int_equal(
                tokenizer_encode(t, cases[i].text, cases[i].n, ids, 4, &n, &err), cases[i].r);
        assert_string_equal(err_text(&err), cases[i].sentence);
        assert_int_equal(n, -7);
    }
    tokenizer_free(t);
}

/* A protobuf field of bytes. */
static size_t put(uint8_t *to, int number, const void *data, size_t n) {
    size_t k = 0;
    uint64_t varints[2] = {(uint64_t)number << 3 | 2, n};
    for (int i = 0; i < 2; i++) {
        for (; varints[i] >= 0x80; varints[i] >>= 7)
            to[k++] = (uint8_t)(varints[i] | 0x80);
        to[k++] = (uint8_t)varints[i];
    }
    memcpy(to + k, data, n);
    return k + n;
}

static void bad_model_is_refused(void **state) {
    static const uint8_t end_piece[] = {0x0A, 4, '<', '/', 's', '>', 0x18, 3};
    static const uint8_t unknown[] = {0x0A, 1, '?', 0x18, 2}, word[] = {0x0A, 1, 'a'};
    static const uint8_t no_text[] = {0x18, 1}, bad_type[] = {0x0A, 1, 'b', 0x18, 7};
    static const uint8_t nan_score[] = {0x0A, 1, 'b', 0x15, 0, 0, 0xC0, 0x7F};
    static const uint8_t not_utf8[] = {0x0A, 1, 0xFF}, beyond[] = {0x0A, 9, 'b'};
    static const uint8_t bpe[] = {0x18, 2}, no_space[] = {0x18, 0};
    static const uint8_t short_map[] = {0x12, 2, 1, 2}, odd_map[] = {0x12, 6, 3, 0, 0, 0, 1, 2};
    static const uint8_t open_map[] = {0x12, 9, 4, 0, 0, 0, 0, 0, 0, 0, 'x'};
#define EXTRA(number, bytes) number, bytes, sizeof(bytes)
    static const struct {
        int number;
        const uint8_t *extra;
        size_t n;
        int r;
        const char *sentence;
    } cases[] = {
            {EXTRA(1, no_text), -EBADMSG, "tokenizer: piece 3 is damaged: "},
            {EXTRA(1, bad_type), -EBADMSG, "tokenizer: piece 3 is damaged: "},
            {EXTRA(1, nan_score), -EBADMSG, "tokenizer: piece 3 is damaged: "},
            {EXTRA(1, not_utf8), -EBADMSG, "tokenizer: piece 3 is damaged: "},
            {EXTRA(1, beyond), -EBADMSG, "tokenizer: piece 3 is damaged: "},
            {EXTRA(1, word), -EBADMSG, "tokenizer: its pieces 2 and 3 are the same text"},
            {EXTRA(2, bpe), -EINVAL, "tokenizer: its kind is 2, it must be 1, unigram"},
            {EXTRA(2, beyond), -EBADMSG, "tokenizer: its training settings are damaged"},
            {EXTRA(3, no_space), -EINVAL, "tokenizer: it does not put a space, "},
            {EXTRA(3, beyond), -EBADMSG, "tokenizer: its normaliser is damaged"},
            {EXTRA(3, short_map), -EBADMSG, "tokenizer: its character map has 2 bytes, "},
            {EXTRA(3, odd_map), -EBADMSG, "tokenizer: its character map has 6 bytes, of them 3 "},
            {EXTRA(3, open_map), -EBADMSG, "tokenizer: its character map does not end in NUL"},
    };
    uint8_t model[200];
    size_t base = put(model, 1, end_piece, sizeof(end_piece));
    base += put(model + base, 1, unknown, sizeof(unknown));
    base += put(model + base, 1, word, sizeof(word));
    Tokenizer *t = NULL;
    assert_int_equal(tokenizer_new(model, base, 4, TOKENIZER_HUGGING_FACE, &t, NULL), 0);
    t = tokenizer_free(t);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        size_t n = base + put(model + base, cases[i].number, cases[i].extra, cases[i].n);
        assert_int_equal(tokenizer_new(model, n, 4, TOKENIZER_HUGGING_FACE, &t, &err), cases[i].r);
        assert_memory_equal(err_text(&err), cases[i].sentence, strlen(cases[i].sentence));
    }
    Err err = {0};
    assert_int_equal(tokenizer_new(model, base, 2, TOKENIZER_HUGGING_FACE, &t, &err), -EINVAL);
    assert_string_equal(
            err_text(&err), "tokenizer: it has 3 pieces, the text encoder's embedding has 2 rows");
    err_clear(&err);
    assert_int_equal(tokenizer_new("", 0, 1024, TOKENIZER_HUGGING_FACE, &t, &err), -EBADMSG);
    assert_string_equal(err_text(&err), "tokenizer: among its 0 pieces is no unknown piece");
    err_clear(&err);
    assert_int_equal(
            tokenizer_new("no model", 8, 1024, TOKENIZER_HUGGING_FACE, &t, &err), -EBADMSG);
    assert_null(t);
}

/* Cut anywhere or with one byte changed, a file is refused or is another model: never a crash. */
static void damaged_model_is_survived(void **state) {
    size_t n;
    char *data = read_model(IDENTITY_MODEL, &n);
    for (size_t i = 0; i < n; i++) {
        Tokenizer *t = NULL;
        char saved = data[i];
        if (i % 11 == 0 && tokenizer_new(data, i, 1024, TOKENIZER_HUGGING_FACE, &t, NULL) == 0)
            t = tokenizer_free(t);
        data[i] = (char)(saved ^ (1 << i % 8));
        if (tokenizer_new(data, n, 1024, TOKENIZER_HUGGING_FACE, &t, NULL) == 0) {
            int32_t ids[16];
            int64_t n_ids;
            assert_int_equal(tokenizer_encode(t, "a red circle", 12, ids, 16, &n_ids, NULL), 0);
        }
        tokenizer_free(t);
        data[i] = saved;
    }
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(ids_are_the_references),
            cmocka_unit_test(plain_ids_are_the_librarys),
            cmocka_unit_test(extra_ids_need_their_rows),
            cmocka_unit_test(long_text_is_cut),
            cmocka_unit_test(bad_text_is_refused),
            cmocka_unit_test(bad_model_is_refused),
            cmocka_unit_test(damaged_model_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
