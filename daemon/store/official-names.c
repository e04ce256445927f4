#include "store/official-names.h"

#include "base/macro.h"
#include "base/str.h"

#define T5 "text_encoder"
#define DIT "transformer"
#define VAE "vae"

/* In `from`, # is a number, % a number that the other name does not have, @ is "weight" or "bias".
 * In `to`, # and @ are what stood there, in order; NULL is the same name. */
typedef struct Rule {
    const char *part, *from, *to;
} Rule;

#define RES(from, to)                                                                              \
    {VAE, from ".residual.0.gamma", to ".norm1.gamma"},                                            \
            {VAE, from ".residual.2.@", to ".conv1.@"},                                            \
            {VAE, from ".residual.3.gamma", to ".norm2.gamma"},                                    \
            {VAE, from ".residual.6.@", to ".conv2.@"}, {                                          \
        VAE, from ".shortcut.@", to ".conv_shortcut.@"                                             \
    }
#define ATTENTION(from, to)                                                                        \
    {DIT, "blocks.#." from ".q.@", "blocks.#." to ".to_q.@"},                                      \
            {DIT, "blocks.#." from ".k.@", "blocks.#." to ".to_k.@"},                              \
            {DIT, "blocks.#." from ".v.@", "blocks.#." to ".to_v.@"},                              \
            {DIT, "blocks.#." from ".o.@", "blocks.#." to ".to_out.0.@"},                          \
            {DIT, "blocks.#." from ".norm_q.weight", "blocks.#." to ".norm_q.weight"}, {           \
        DIT, "blocks.#." from ".norm_k.weight", "blocks.#." to ".norm_k.weight"                    \
    }

/* clang-format off */
static const Rule rules[] = {
    {DIT, "patch_embedding.@", NULL},
    {DIT, "text_embedding.0.@", "condition_embedder.text_embedder.linear_1.@"},
    {DIT, "text_embedding.2.@", "condition_embedder.text_embedder.linear_2.@"},
    {DIT, "time_embedding.0.@", "condition_embedder.time_embedder.linear_1.@"},
    {DIT, "time_embedding.2.@", "condition_embedder.time_embedder.linear_2.@"},
    {DIT, "time_projection.1.@", "condition_embedder.time_proj.@"},
    {DIT, "blocks.#.modulation", "blocks.#.scale_shift_table"},
    ATTENTION("self_attn", "attn1"),
    ATTENTION("cross_attn", "attn2"),
    {DIT, "blocks.#.norm3.@", "blocks.#.norm2.@"}, /* the one before the cross-attention */
    {DIT, "blocks.#.ffn.0.@", "blocks.#.ffn.net.0.proj.@"},
    {DIT, "blocks.#.ffn.2.@", "blocks.#.ffn.net.2.@"},
    {DIT, "head.modulation", "scale_shift_table"},
    {DIT, "head.head.@", "proj_out.@"},

    {T5, "token_embedding.weight", "shared.weight"},
    {T5, "blocks.#.norm1.weight", "encoder.block.#.layer.0.layer_norm.weight"},
    {T5, "blocks.#.attn.q.weight", "encoder.block.#.layer.0.SelfAttention.q.weight"},
    {T5, "blocks.#.attn.k.weight", "encoder.block.#.layer.0.SelfAttention.k.weight"},
    {T5, "blocks.#.attn.v.weight", "encoder.block.#.layer.0.SelfAttention.v.weight"},
    {T5, "blocks.#.attn.o.weight", "encoder.block.#.layer.0.SelfAttention.o.weight"},
    {T5, "blocks.#.pos_embedding.embedding.weight", "encoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight"},
    {T5, "blocks.#.norm2.weight", "encoder.block.#.layer.1.layer_norm.weight"},
    {T5, "blocks.#.ffn.gate.0.weight", "encoder.block.#.layer.1.DenseReluDense.wi_0.weight"},
    {T5, "blocks.#.ffn.fc1.weight", "encoder.block.#.layer.1.DenseReluDense.wi_1.weight"},
    {T5, "blocks.#.ffn.fc2.weight", "encoder.block.#.layer.1.DenseReluDense.wo.weight"},
    {T5, "norm.weight", "encoder.final_layer_norm.weight"},

    {T5, "shared.weight", NULL},
    {T5, "encoder.embed_tokens.weight", NULL},
    {T5, "encoder.block.#.layer.0.layer_norm.weight", NULL},
    {T5, "encoder.block.#.layer.0.SelfAttention.q.weight", NULL},
    {T5, "encoder.block.#.layer.0.SelfAttention.k.weight", NULL},
    {T5, "encoder.block.#.layer.0.SelfAttention.v.weight", NULL},
    {T5, "encoder.block.#.layer.0.SelfAttention.o.weight", NULL},
    {T5, "encoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight", NULL},
    {T5, "encoder.block.#.layer.1.layer_norm.weight", NULL},
    {T5, "encoder.block.#.layer.1.DenseReluDense.wi_0.weight", NULL},
    {T5, "encoder.block.#.layer.1.DenseReluDense.wi_1.weight", NULL},
    {T5, "encoder.block.#.layer.1.DenseReluDense.wo.weight", NULL},
    {T5, "encoder.final_layer_norm.weight", NULL},

    {VAE, "conv1.@", "quant_conv.@"}, /* on latents; encoder.conv1 is something else */
    {VAE, "conv2.@", "post_quant_conv.@"},
    {VAE, "encoder.conv1.@", "encoder.conv_in.@"},
    {VAE, "encoder.head.0.gamma", "encoder.norm_out.gamma"},
    {VAE, "encoder.head.2.@", "encoder.conv_out.@"},
    RES("encoder.middle.0", "encoder.mid_block.resnets.0"),
    {VAE, "encoder.middle.1.norm.gamma", "encoder.mid_block.attentions.0.norm.gamma"},
    {VAE, "encoder.middle.1.to_qkv.@", "encoder.mid_block.attentions.0.to_qkv.@"},
    {VAE, "encoder.middle.1.proj.@", "encoder.mid_block.attentions.0.proj.@"},
    RES("encoder.middle.2", "encoder.mid_block.resnets.1"),
    RES("encoder.downsamples.#.downsamples.#", "encoder.down_blocks.#.resnets.#"),
    {VAE, "encoder.downsamples.#.downsamples.%.resample.1.@", "encoder.down_blocks.#.downsampler.resample.1.@"},
    {VAE, "encoder.downsamples.#.downsamples.%.time_conv.@", "encoder.down_blocks.#.downsampler.time_conv.@"},
    {VAE, "decoder.conv1.@", "decoder.conv_in.@"},
    {VAE, "decoder.head.0.gamma", "decoder.norm_out.gamma"},
    {VAE, "decoder.head.2.@", "decoder.conv_out.@"},
    RES("decoder.middle.0", "decoder.mid_block.resnets.0"),
    {VAE, "decoder.middle.1.norm.gamma", "decoder.mid_block.attentions.0.norm.gamma"},
    {VAE, "decoder.middle.1.to_qkv.@", "decoder.mid_block.attentions.0.to_qkv.@"},
    {VAE, "decoder.middle.1.proj.@", "decoder.mid_block.attentions.0.proj.@"},
    RES("decoder.middle.2", "decoder.mid_block.resnets.1"),
    RES("decoder.upsamples.#.upsamples.#", "decoder.up_blocks.#.resnets.#"),
    {VAE, "decoder.upsamples.#.upsamples.%.resample.1.@", "decoder.up_blocks.#.upsampler.resample.1.@"},
    {VAE, "decoder.upsamples.#.upsamples.%.time_conv.@", "decoder.up_blocks.#.upsampler.time_conv.@"},
};

/* As whole-checkpoint files name their parts. */
static const struct {
    const char *prefix, *part;
} prefixes[] = {
    {"model.diffusion_model.", DIT},
    {"text_encoders.umt5xxl.transformer.", T5},
    {"text_encoders.t5xxl.transformer.", T5},
    {"first_stage_model.", VAE},
    {"vae.", VAE},
};

/* Relatives of the model whose files would otherwise pass with these tensors ignored. */
static const struct {
    const char *prefix, *what;
} refused[] = {
    {"img_emb.", "a model with an image encoder"},
    {"vace_", "a model for video editing"},
    {"face_adapter.", "a model for animation"},
    {"pose_patch_embedding.", "a model for animation"},
    {"audio_injector.", "a model driven by sound"},
};
/* clang-format on */

enum { MAX_CAPTURES = 3, MAX_DIGITS = 6 };

typedef struct Captures {
    const char *text[MAX_CAPTURES];
    size_t bytes[MAX_CAPTURES];
    size_t n;
} Captures;

static void capture(Captures *c, const char *text, size_t n) {
    assert(c->n < MAX_CAPTURES);
    c->text[c->n] = text;
    c->bytes[c->n++] = n;
}

static size_t leaf_length(const char *s) {
    return str_starts(s, "weight") ? 6 : str_starts(s, "bias") ? 4 : 0;
}

static bool match(const char *pattern, const char *s, Captures *c) {
    c->n = 0;
    for (; *pattern; pattern++) {
        bool number = *pattern == '#' || *pattern == '%';
        size_t n = number ? strspn(s, "0123456789") : *pattern == '@' ? leaf_length(s) : 1;
        if (n == 0 || n > MAX_DIGITS || (!number && *pattern != '@' && *s != *pattern))
            return false;
        if (*pattern == '#' || *pattern == '@')
            capture(c, s, n);
        s += n;
    }
    return !*s;
}

/* Patterns and captures are short: the longest result takes half of the room. */
static void expand(const char *to, const Captures *c, char out[static OFFICIAL_MAX_NAME]) {
    size_t n = 0, next = 0;
    for (; *to; to++) {
        bool filled = *to == '#' || *to == '@';
        const char *text = filled ? c->text[next] : to;
        size_t bytes = filled ? c->bytes[next] : 1;
        next += filled;
        assert(next <= c->n && n + bytes < OFFICIAL_MAX_NAME);
        memcpy(out + n, text, bytes);
        n += bytes;
    }
    out[n] = '\0';
}

bool official_name_find(const char *name, OfficialName *ret) {
    *ret = (OfficialName){0};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (!str_starts(name, prefixes[i].prefix))
            continue;
        ret->part = prefixes[i].part;
        name += strlen(prefixes[i].prefix);
        break;
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (str_starts(name, refused[i].prefix))
            ret->refused = refused[i].what;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const Rule *r = &rules[i];
        Captures c;
        if ((ret->part && !str_eq(ret->part, r->part)) || !match(r->from, name, &c))
            continue;
        expand(r->to ? r->to : r->from, &c, ret->name);
        ret->part = r->part;
        return true;
    }
    return false;
}

bool official_name_is_tokenizer(const char *name) {
    static const char tensor[] = "spiece_model";
    return str_eq(name, tensor) || str_eq(name, "text_encoders.umt5xxl.spiece_model");
}
