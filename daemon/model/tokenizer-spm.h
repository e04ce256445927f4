/* tokenizer-spm - SentencePiece for C: no exception and no C++ type leaves it. */
#ifndef PREHEAT_MODEL_TOKENIZER_SPM_H
#define PREHEAT_MODEL_TOKENIZER_SPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TokenizerSpm TokenizerSpm;

enum { TOKENIZER_SPM_REASON = 200 };

/* tokenizer_spm_new - the model's bytes are copied. Returns 0; -EBADMSG with the library's reason;
 * -ENOMEM. */
int tokenizer_spm_new(
        const void *model, size_t n, TokenizerSpm **ret, char reason[TOKENIZER_SPM_REASON]);
void tokenizer_spm_free(TokenizerSpm *m);

int32_t tokenizer_spm_n_pieces(const TokenizerSpm *m);
int32_t tokenizer_spm_end_id(const TokenizerSpm *m);     /* -1: none */
int32_t tokenizer_spm_unknown_id(const TokenizerSpm *m); /* -1: none */
int32_t tokenizer_spm_space_id(const TokenizerSpm *m);   /* of U+2581 alone, or the unknown id */

/* tokenizer_spm_control_text - the text of a control or unknown piece, NULL for all others. */
const char *tokenizer_spm_control_text(const TokenizerSpm *m, int32_t id);

/* tokenizer_spm_adds_space - whether text gets a space in front. */
bool tokenizer_spm_adds_space(const TokenizerSpm *m);

/* tokenizer_spm_encode_plain - at most room ids of n bytes of text, as SentencePiece itself gives
 * them.
 *
 * Returns their number; -ENOMEM; -EIO. */
int64_t tokenizer_spm_encode_plain(
        const TokenizerSpm *m, const char *text, size_t n, int32_t ids[], int64_t room);

/* tokenizer_spm_encode - at most room ids of n bytes of text; byte pieces as the unknown id, and
 * unknowns that touch as one.
 *
 * Returns their number; -ENOMEM; -EIO. */
int64_t tokenizer_spm_encode(
        const TokenizerSpm *m, const char *text, size_t n, int32_t ids[], int64_t room);

#ifdef __cplusplus
}
#endif

#endif
