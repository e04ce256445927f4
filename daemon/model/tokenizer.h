/* tokenizer - a cleaned prompt to the text encoder's token ids.
 *
 * Two ways to read the same model file, for checkpoints are published for either:
 *
 * TOKENIZER_SENTENCEPIECE is the library itself, over the whole text; a character that the
 * vocabulary does not have becomes byte pieces where the model file says so.
 *
 * TOKENIZER_HUGGING_FACE has the habits of the tokenizer that both reference pipelines use:
 * - text is cut before every space, and each word is tokenised alone, with its space in front; the
 *   first word gets one, too;
 * - what the vocabulary does not have becomes the unknown id, never byte pieces, and unknowns that
 *   touch within a word are one;
 * - the literal text of a control piece ("</s>", "<pad>") becomes its id, as does "<extra_id_k>"
 * for k < 300 where the embedding has rows for those ids, which count down behind the vocabulary.
 * Where it differs: scores are summed in f32, not f64, which can matter only for two ways of
 * cutting a word that are equally good to seven digits; and the text of a byte piece ("<0x41>") is
 * not looked up.
 *
 * Source: google/sentencepiece; transformers convert_slow_tokenizer.py, T5Converter; tokenizers,
 * Unigram and Metaspace. Read-only once made; any thread may encode. */
#ifndef PREHEAT_MODEL_TOKENIZER_H
#define PREHEAT_MODEL_TOKENIZER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

typedef enum TokenizerHabit { TOKENIZER_SENTENCEPIECE, TOKENIZER_HUGGING_FACE } TokenizerHabit;

enum {
    TOKENIZER_MAX_MODEL = 64 << 20, /* bytes of spiece.model */
    TOKENIZER_MAX_BYTES = 64 << 10, /* of a prompt */
};

/* tokenizer_new - from the bytes of spiece.model, which may go afterwards.
 *
 *   n_rows  rows of the text encoder's embedding; no id will reach it
 *
 * Returns 0; -EBADMSG when it is no SentencePiece model or lacks an end or unknown piece; -EINVAL
 * when it has more pieces than rows, or does not put a space in front of text; -EFBIG; -ENOMEM. */
int tokenizer_new(const void *model, size_t n, int64_t n_rows, TokenizerHabit habit,
        Tokenizer **ret, Err *err);
Tokenizer *tokenizer_free(Tokenizer *t);

int32_t tokenizer_end_id(const Tokenizer *t);
int32_t tokenizer_unknown_id(const Tokenizer *t);

/* tokenizer_encode - the text's ids, cut to room - 1, and the end id; the empty text is the end id
 * alone.
 *
 *   text  n bytes of UTF-8
 *   ids   [room], room >= 1
 *
 * Returns 0; -EINVAL when the text is not UTF-8 or has a NUL; -E2BIG beyond TOKENIZER_MAX_BYTES;
 * -ENOMEM. */
int tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int32_t ids[], int64_t room,
        int64_t *ret_n, Err *err);

#endif
