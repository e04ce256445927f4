/* The model room: cleaning a prompt, a tokenizer, the networks bound to a checkpoint. */
#include "oom.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "model/clean.h"
#include "model/model.h"
#include "model/tokenizer.h"

#include <fcntl.h>
#include <string.h>

DEFINE_CLEANUP(Model, model_free)
DEFINE_CLEANUP(Tokenizer, tokenizer_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)
DEFINE_CLEANUP(Manifest, manifest_free)

static int clean(void *context, Err *err) {
    static const char text[] = "  a &amp;amp; \uff21\uff0c e\u0301 \ufb01\r\nsecond\tline ";
    _cleanup_free_ char *cleaned = NULL;
    int r = clean_prompt(text, sizeof(text) - 1, &cleaned, err);
    assert(r < 0 || strcmp(cleaned, "a & A, \u00e9 fi second line") == 0);
    return r;
}

typedef struct Bytes {
    char *data;
    size_t n;
} Bytes;

static int tokenise(void *context, Err *err) {
    static const char text[] = "a red circle </s> moving";
    const Bytes *model = context;
    _cleanup_(tokenizer_freep) Tokenizer *t = NULL;
    int32_t ids[20];
    int64_t n;
    int r = tokenizer_new(model->data, model->n, 1024, TOKENIZER_HUGGING_FACE, &t, err);
    return r < 0 ? r : tokenizer_encode(t, text, sizeof(text) - 1, ids, 20, &n, err);
}

static int bind(void *context, Err *err) {
    _cleanup_(model_freep) Model *m = NULL;
    return model_new(context, &m, err);
}

int main(void) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *c = NULL;
    Bytes model = {0};
    Err err = {0};
    int r = io_read_file(
            AT_FDCWD, TINY_WAN "/tokenizer/spiece.model", 1 << 20, &model.data, &model.n, &err);
    if (r == 0)
        r = manifest_open(TINY_WAN, &m, &err);
    if (r == 0)
        r = checkpoint_open_files(m, &c, &err);
    assert(r == 0);
    oom_count_up("clean_prompt", clean, NULL, 10);
    oom_count_up("tokenizer_new, tokenizer_encode", tokenise, &model, 10);
    oom_count_up("model_new", bind, c, 100);
    free(model.data);
    return 0;
}
