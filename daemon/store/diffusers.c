#include "store/diffusers.h"

#include "base/str.h"
#include "store/shards.h"
#include "store/small-file.h"
#include "store/weight-file.h"

#include <fcntl.h>

static const struct {
    const char *part, *stem;
} parts[] = {
        {"text_encoder", "model"},
        {"transformer", "diffusion_pytorch_model"},
        {"vae", "diffusion_pytorch_model"},
};

static const struct {
    const char *path;
    SmallKind kind;
    JsonNeed need;
} smalls[] = {
        {"model_index.json", SMALL_JSON, JSON_REQUIRED},
        {"text_encoder/config.json", SMALL_JSON, JSON_REQUIRED},
        {"transformer/config.json", SMALL_JSON, JSON_REQUIRED},
        {"vae/config.json", SMALL_JSON, JSON_REQUIRED},
        {"scheduler/scheduler_config.json", SMALL_JSON, JSON_REQUIRED},
        {"tokenizer/spiece.model", SMALL_BYTES, JSON_REQUIRED},
        {"tokenizer/tokenizer_config.json", SMALL_JSON, JSON_OPTIONAL},
        {"tokenizer/special_tokens_map.json", SMALL_JSON, JSON_OPTIONAL},
        {"tokenizer/added_tokens.json", SMALL_JSON, JSON_OPTIONAL},
};

static int read_part(const DraftSource *s, const char *part, const char *stem, Err *err) {
    _cleanup_free_ char *single = str_format("%s/%s.safetensors", part, stem);
    _cleanup_free_ char *index = str_format("%s/%s.safetensors.index.json", part, stem);
    if (!single || !index)
        return err_set(err, -ENOMEM, "no memory for a file's name");
    bool has_single = faccessat(s->fd, single, F_OK, 0) == 0;
    bool has_index = faccessat(s->fd, index, F_OK, 0) == 0;
    if (has_single && has_index)
        return err_set(err, -EINVAL, "both '%s' and '%s' exist, one must go", single, index);
    if (!has_single && !has_index)
        return err_set(err, -ENOENT, "neither '%s' nor '%s' exists", single, index);
    return has_single ? weight_file_read(s, part, single, err) : shards_read(s, part, index, err);
}

int diffusers_read(const DraftSource *s, Err *err) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(smalls); i++)
        r = small_file_read(s, smalls[i].path, smalls[i].path, smalls[i].kind, smalls[i].need, err);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(parts); i++)
        r = read_part(s, parts[i].part, parts[i].stem, err);
    return r;
}
