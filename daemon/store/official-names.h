/* official-names - what the model code calls a tensor that has its official name.
 *
 * The names of the model's own repository and of the single files made from it, to those of the
 * Diffusers layout. One tensor is one tensor in both: none is cut, merged, transposed or reshaped,
 * so that a name is all that differs. Text encoders in single files have the Diffusers names
 * already. */
#ifndef PREHEAT_STORE_OFFICIAL_NAMES_H
#define PREHEAT_STORE_OFFICIAL_NAMES_H

#include <stdbool.h>

enum { OFFICIAL_MAX_NAME = 128 };

typedef struct OfficialName {
    const char *part; /* static; NULL: not even the part can be told */
    char name[OFFICIAL_MAX_NAME];
    const char *refused; /* static; what this tensor belongs to, which preheat cannot do */
} OfficialName;

/* official_name_find - true when the name is one of the table, without its prefix if it has one of
 * those that whole-checkpoint files put before a part's names. */
bool official_name_find(const char *name, OfficialName *ret);

/* official_name_is_tokenizer - the SentencePiece file that single-file text encoders carry as a
 * tensor of bytes. */
bool official_name_is_tokenizer(const char *name);

#endif
