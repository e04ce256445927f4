#include "model/tokenizer-spm.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <string_view>
#include <vector>

struct TokenizerSpm {
    sentencepiece::SentencePieceProcessor pieces;
};

static const char space_piece[] = "\xE2\x96\x81"; /* U+2581 */

int tokenizer_spm_new(
        const void *model, size_t n, TokenizerSpm **ret, char reason[TOKENIZER_SPM_REASON]) try {
    auto m = std::make_unique<TokenizerSpm>();
    auto status = m->pieces.LoadFromSerializedProto(
            std::string_view(static_cast<const char *>(model), n));
    if (!status.ok()) {
        (void)snprintf(reason, TOKENIZER_SPM_REASON, "%s", status.ToString().c_str());
        return -EBADMSG;
    }
    *ret = m.release();
    return 0;
} catch (...) {
    return -ENOMEM;
}

void tokenizer_spm_free(TokenizerSpm *m) {
    delete m;
}

int32_t tokenizer_spm_n_pieces(const TokenizerSpm *m) {
    return m->pieces.GetPieceSize();
}

int32_t tokenizer_spm_end_id(const TokenizerSpm *m) {
    return m->pieces.eos_id();
}

int32_t tokenizer_spm_unknown_id(const TokenizerSpm *m) {
    return m->pieces.unk_id();
}

int32_t tokenizer_spm_space_id(const TokenizerSpm *m) {
    return m->pieces.PieceToId(space_piece);
}

const char *tokenizer_spm_control_text(const TokenizerSpm *m, int32_t id) {
    if (!m->pieces.IsControl(id) && !m->pieces.IsUnknown(id))
        return nullptr;
    return m->pieces.IdToPiece(id).c_str();
}

bool tokenizer_spm_adds_space(const TokenizerSpm *m) try {
    std::vector<std::string> pieces;
    return m->pieces.Encode("a", &pieces).ok() && !pieces.empty() &&
           pieces[0].compare(0, sizeof(space_piece) - 1, space_piece) == 0;
} catch (...) {
    return false;
}

int64_t tokenizer_spm_encode_plain(
        const TokenizerSpm *m, const char *text, size_t n, int32_t ids[], int64_t room) try {
    std::vector<int> found;
    if (!m->pieces.Encode(std::string_view(text, n), &found).ok())
        return -EIO;
    int64_t count = std::min((int64_t)found.size(), room);
    std::copy_n(found.begin(), count, ids);
    return count;
} catch (...) {
    return -ENOMEM;
}

int64_t tokenizer_spm_encode(
        const TokenizerSpm *m, const char *text, size_t n, int32_t ids[], int64_t room) try {
    std::vector<int> found;
    if (!m->pieces.Encode(std::string_view(text, n), &found).ok())
        return -EIO;
    int32_t unknown = m->pieces.unk_id();
    int64_t count = 0;
    for (size_t i = 0; i < found.size() && count < room; i++) {
        int32_t id = m->pieces.IsByte(found[i]) ? unknown : found[i];
        if (id != unknown || count == 0 || ids[count - 1] != unknown)
            ids[count++] = id;
    }
    return count;
} catch (...) {
    return -ENOMEM;
}
