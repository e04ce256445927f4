/* spiece - the file of a SentencePiece model, read in place.
 *
 * A protobuf message; the fields read are ModelProto 1 (pieces: 1 text, 2 score, 3 type), 2
 * (training: 3 kind of model, 24 space as suffix, 35 byte pieces for what is unknown, 47 text of
 * the end piece) and 3 (normaliser: 2 character map, 3 space in front, 4 no other spaces than
 * between words, 5 space as U+2581). Other fields are skipped. Immutable once made. Source:
 * sentencepiece_model.proto of SentencePiece 0.2. */
#ifndef PREHEAT_MODEL_SPIECE_H
#define PREHEAT_MODEL_SPIECE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SPIECE_MAX_FILE = 64 << 20,
    SPIECE_MAX_PIECES = 1 << 20,
    SPIECE_MAX_TEXT = 512, /* bytes of one piece */
};

typedef enum PieceType {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN,
    PIECE_CONTROL,
    PIECE_USER,
    PIECE_UNUSED,
    PIECE_BYTE,
} PieceType;

typedef struct Piece {
    const char *text; /* borrowed from the file; not empty, UTF-8, no NUL behind it */
    uint32_t n;
    float score; /* finite */
    PieceType type;
} Piece;

typedef struct Spiece {
    Piece *pieces; /* the id is the index */
    int32_t n_pieces;
    int32_t unknown, end;
    bool trims_spaces;
    int32_t bytes[256];   /* ids of the pieces "<0x00>" to "<0xFF>", or bytes[0] -1: not used */
    const char *charsmap; /* normaliser's character map, borrowed from the file; NULL: none */
    size_t charsmap_bytes;
} Spiece;

/* spiece_parse - data must outlive ret.
 *
 * Returns 0, ret is for spiece_done() then; -EBADMSG when the file is damaged or lacks an end or
 * unknown piece; -EINVAL when it is no unigram model with a space in front of text; -ENOMEM. */
int spiece_parse(const void *data, size_t n, Spiece *ret, Err *err);
void spiece_done(Spiece *s);

#endif
