/* tokenizer - a cleaned prompt to the text encoder's token ids.
 *
 * Two ways to read the same SentencePiece unigram model, for checkpoints are published for either:
 *
 * TOKENIZER_SENTENCEPIECE does as the library: the text goes through the model's character map,
 * spaces at the ends and all but one of a run are dropped where the model says so, and what the
 * vocabulary does not have becomes byte pieces where it says so.
 *
 * TOKENIZER_HUGGING_FACE has the habits of the tokenizer that both reference pipelines use:
 * - the literal text of a control piece ("</s>", "<pad>") becomes its id, as does "<extra_id_k>"
 * for k < 300 where the embedding has rows for those ids, which count down behind the vocabulary;
 * - in the text between, mapped as above, runs of spaces are one but none is dropped, and it is cut
 *   into words before every space;
 * - what the vocabulary does not have becomes the unknown id, never byte pieces.
 * A character map, which umT5's model does not have, is applied as the library does: the tokenizer
 * of Hugging Face takes a letter with its marks for one and loses marks that the map does not name.
 *
 * In both, a space is written U+2581 and one stands in front.
 *
 * Why not the SentencePiece library: it takes 0.55 s of CPU to load umT5's 256,000 pieces, which is
 * on the way to the first answer; this takes 0.03 s and can have the other habits, too.
 *
 * Sources: SentencePiece, normalizer.cc; transformers convert_slow_tokenizer.py, T5Converter;
 * tokenizers, Metaspace. Read-only once made; any thread may encode. */
#ifndef PREHEAT_MODEL_TOKENIZER_H
#define PREHEAT_MODEL_TOKENIZER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

typedef enum TokenizerHabit { TOKENIZER_SENTENCEPIECE, TOKENIZER_HUGGING_FACE } TokenizerHabit;

enum { TOKENIZER_MAX_BYTES = 384 << 10 }; /* of a prompt, cleaned */

/* tokenizer_new - from the bytes of spiece.model, which may go afterwards.
 *
 *   n_rows  rows of the text encoder's embedding; no id will reach it
 *
 * Returns 0; -EINVAL when it has more pieces than rows; errors of spiece_parse(),
 * charsmap_parse() and unigram_new(). */
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
 * Returns 0; -EINVAL when the text is not UTF-8, has a NUL, or more than TOKENIZER_MAX_BYTES;
 * -ENOMEM. */
int tokenizer_encode(const Tokenizer *t, const char *text, size_t n, int32_t ids[], int64_t room,
        int64_t *ret_n, Err *err);

#endif
