#include "fuzz.h"

#include "base/macro.h"
#include "model/tokenizer.h"

#include <string.h>

/* The input is a model file; a fixed text is read with whatever vocabulary it gives. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char text[] = "a red circle, \u732b \uff21</s><extra_id_7>  \u2581end ";
    enum { ROWS = 2000, ROOM = 40 };
    static const TokenizerHabit habits[] = {TOKENIZER_SENTENCEPIECE, TOKENIZER_HUGGING_FACE};
    for (size_t i = 0; i < ARRAY_LEN(habits); i++) {
        Tokenizer *t;
        Err err = {0};
        int32_t ids[ROOM];
        int64_t n_ids;
        if (tokenizer_new(data, n, ROWS, habits[i], &t, &err) < 0)
            continue;
        if (tokenizer_encode(t, text, sizeof(text) - 1, ids, ROOM, &n_ids, &err) == 0)
            for (int64_t k = 0; k < n_ids; k++)
                assert(ids[k] >= 0 && ids[k] < ROWS);
        tokenizer_free(t);
    }
    return 0;
}
