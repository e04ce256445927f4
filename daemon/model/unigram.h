/* unigram - the likeliest way to cut a word into pieces of a vocabulary.
 *
 * Ties go to the cut that was found first, in order of its end, then of its start. Read-only once
 * made; any thread may encode. Sources: tokenizers, models/unigram/model.rs; SentencePiece,
 * unigram_model.cc, EncodeOptimized. */
#ifndef PREHEAT_MODEL_UNIGRAM_H
#define PREHEAT_MODEL_UNIGRAM_H

#include "base/err.h"
#include "model/spiece.h"

typedef struct Unigram Unigram;

/* How two implementations differ over the same vocabulary. */
typedef enum UnigramRules {
    UNIGRAM_SENTENCEPIECE, /* NORMAL and USER pieces match text; path scores are f32 */
    UNIGRAM_HUGGING_FACE,  /* every piece matches its text; path scores are f64 */
} UnigramRules;

/* unigram_new - s must outlive it. Returns 0; -EBADMSG when two pieces are the same text; -ENOMEM.
 */
int unigram_new(const Spiece *s, UnigramRules rules, Unigram **ret, Err *err);
Unigram *unigram_free(Unigram *u);

/* unigram_encode - at most room ids of n bytes of UTF-8.
 *
 * Characters that no piece covers become the unknown id, those that touch one together; under
 * UNIGRAM_SENTENCEPIECE, where the model says so, the pieces of their bytes.
 *
 * Returns their number or -ENOMEM. */
int64_t unigram_encode(const Unigram *u, const char *text, size_t n, int32_t ids[], int64_t room);

#endif
