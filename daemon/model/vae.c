#include "model/vae.h"

#include "base/cleanup.h"
#include "model/vae-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* Widths that one table's extents refer to. */
typedef struct Widths {
    int64_t c_in, c_out, c_wide;
} Widths;

#define DIM(member) WEIGHT_DIM(Widths, member)
#define ONE WEIGHT_FIXED(1)
#define THREE WEIGHT_FIXED(3)
/* Part `i` of `n` equal ones of the first axis; 0 of 0 is all of it. */
#define PART(type, member, text, use, i, n, ...)                                                   \
    {                                                                                              \
        .name = text, .offset = offsetof(type, member), .kind = use, .dim = {__VA_ARGS__},         \
        .rank = ARRAY_LEN(((int32_t[]){__VA_ARGS__})), .part = i, .n_parts = n                     \
    }
#define SPEC(type, member, text, use, ...) PART(type, member, text, use, 0, 0, __VA_ARGS__)
#define HALF(type, member, text, use, i, ...) PART(type, member, text, use, i, 2, __VA_ARGS__)

/* clang-format off */
static const WeightSpec res_specs[] = {
    SPEC(VaeRes, norm1, "norm1.gamma", WEIGHT_VECTOR, DIM(c_in), ONE, ONE, ONE),
    SPEC(VaeRes, conv1.w, "conv1.weight", WEIGHT_CONV, DIM(c_out), DIM(c_in), THREE, THREE, THREE),
    SPEC(VaeRes, conv1.b, "conv1.bias", WEIGHT_VECTOR, DIM(c_out)),
    SPEC(VaeRes, norm2, "norm2.gamma", WEIGHT_VECTOR, DIM(c_out), ONE, ONE, ONE),
    SPEC(VaeRes, conv2.w, "conv2.weight", WEIGHT_CONV, DIM(c_out), DIM(c_out), THREE, THREE, THREE),
    SPEC(VaeRes, conv2.b, "conv2.bias", WEIGHT_VECTOR, DIM(c_out)),
};
static const WeightSpec shortcut_specs[] = {
    SPEC(VaeRes, shortcut.w, "conv_shortcut.weight", WEIGHT_MATRIX, DIM(c_out), DIM(c_in), ONE, ONE, ONE),
    SPEC(VaeRes, shortcut.b, "conv_shortcut.bias", WEIGHT_VECTOR, DIM(c_out)),
};
static const WeightSpec attention_specs[] = {
    SPEC(VaeAttention, norm, "norm.gamma", WEIGHT_VECTOR, DIM(c_in), ONE, ONE),
    SPEC(VaeAttention, qkv.w, "to_qkv.weight", WEIGHT_MATRIX, DIM(c_wide), DIM(c_in), ONE, ONE),
    SPEC(VaeAttention, qkv.b, "to_qkv.bias", WEIGHT_VECTOR, DIM(c_wide)),
    SPEC(VaeAttention, proj.w, "proj.weight", WEIGHT_MATRIX, DIM(c_in), DIM(c_in), ONE, ONE),
    SPEC(VaeAttention, proj.b, "proj.bias", WEIGHT_VECTOR, DIM(c_in)),
};
static const WeightSpec resample_specs[] = {
    SPEC(VaeLevel, resample.w, "resample.1.weight", WEIGHT_CONV, DIM(c_out), DIM(c_out), THREE, THREE),
    SPEC(VaeLevel, resample.b, "resample.1.bias", WEIGHT_VECTOR, DIM(c_out)),
};
static const WeightSpec time_down_specs[] = {
    SPEC(VaeLevel, time[0].w, "time_conv.weight", WEIGHT_CONV, DIM(c_out), DIM(c_out), THREE, ONE, ONE),
    SPEC(VaeLevel, time[0].b, "time_conv.bias", WEIGHT_VECTOR, DIM(c_out)),
};
static const WeightSpec time_up_specs[] = {
    HALF(VaeLevel, time[0].w, "time_conv.weight", WEIGHT_CONV, 0, DIM(c_wide), DIM(c_out), THREE, ONE, ONE),
    HALF(VaeLevel, time[1].w, "time_conv.weight", WEIGHT_CONV, 1, DIM(c_wide), DIM(c_out), THREE, ONE, ONE),
    HALF(VaeLevel, time[0].b, "time_conv.bias", WEIGHT_VECTOR, 0, DIM(c_wide)),
    HALF(VaeLevel, time[1].b, "time_conv.bias", WEIGHT_VECTOR, 1, DIM(c_wide)),
};
static const WeightSpec in_specs[] = {
    SPEC(VaeHalf, in.w, "conv_in.weight", WEIGHT_CONV, DIM(c_out), DIM(c_in), THREE, THREE, THREE),
    SPEC(VaeHalf, in.b, "conv_in.bias", WEIGHT_VECTOR, DIM(c_out)),
};
static const WeightSpec out_specs[] = {
    SPEC(VaeHalf, norm_out, "norm_out.gamma", WEIGHT_VECTOR, DIM(c_in), ONE, ONE, ONE),
    SPEC(VaeHalf, out.w, "conv_out.weight", WEIGHT_CONV, DIM(c_out), DIM(c_in), THREE, THREE, THREE),
    SPEC(VaeHalf, out.b, "conv_out.bias", WEIGHT_VECTOR, DIM(c_out)),
};
static const WeightSpec latent_specs[] = {
    SPEC(VaeHalf, latent.w, "weight", WEIGHT_MATRIX, DIM(c_out), DIM(c_out), ONE, ONE, ONE),
    SPEC(VaeHalf, latent.b, "bias", WEIGHT_VECTOR, DIM(c_out)),
};
/* clang-format on */

#define BIND(group, specs, prefix, object, widths, err)                                            \
    weights_bind((group), (specs), ARRAY_LEN(specs), (prefix), (object), (widths), (err))

enum { PREFIX_SIZE = 80 };

static int bind_res(
        WeightGroup *g, const char *prefix, VaeRes *b, int64_t c_in, int64_t c_out, Err *err) {
    Widths c = {.c_in = c_in, .c_out = c_out};
    b->c_in = c_in;
    b->c_out = c_out;
    int r = BIND(g, res_specs, prefix, b, &c, err);
    if (r == 0 && c_in != c_out)
        r = BIND(g, shortcut_specs, prefix, b, &c, err);
    return r;
}

/* `side` is "down" or "up"; level i of the half. */
static int bind_level(VaeHalf *half, const char *part, const char *side, int i, Err *err) {
    VaeLevel *l = &half->level[i];
    Widths c = {.c_in = l->c_in, .c_out = l->c_out, .c_wide = 2 * l->c_out};
    char prefix[PREFIX_SIZE];
    for (int k = 0; k < half->n_res; k++) {
        (void)snprintf(prefix, sizeof(prefix), "%s.%s_blocks.%d.resnets.%d.", part, side, i, k);
        int r = bind_res(half->group, prefix, &l->res[k], k ? l->c_out : l->c_in, l->c_out, err);
        if (r < 0)
            return r;
    }
    (void)snprintf(prefix, sizeof(prefix), "%s.%s_blocks.%d.%ssampler.", part, side, i, side);
    int r = 0;
    if (l->fs == 2)
        r = BIND(half->group, resample_specs, prefix, l, &c, err);
    if (r < 0 || l->ft == 1)
        return r;
    return side[0] == 'u' ? BIND(half->group, time_up_specs, prefix, l, &c, err)
                          : BIND(half->group, time_down_specs, prefix, l, &c, err);
}

static int bind_middle(VaeHalf *half, const char *part, int64_t width, Err *err) {
    char prefix[PREFIX_SIZE];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(prefix, sizeof(prefix), "%s.mid_block.resnets.%d.", part, i);
        int r = bind_res(half->group, prefix, &half->mid[i], width, width, err);
        if (r < 0)
            return r;
    }
    Widths c = {.c_in = width, .c_wide = 3 * width};
    half->attention.c = width;
    (void)snprintf(prefix, sizeof(prefix), "%s.mid_block.attentions.0.", part);
    return BIND(half->group, attention_specs, prefix, &half->attention, &c, err);
}

static int bind_ends(VaeHalf *half, const char *part, int64_t in, int64_t out, Err *err) {
    const VaeLevel *l = half->level;
    Widths first = {.c_in = in, .c_out = l[0].c_in};
    Widths last = {.c_in = l[half->n_levels - 1].c_out, .c_out = out};
    char prefix[PREFIX_SIZE];
    (void)snprintf(prefix, sizeof(prefix), "%s.", part);
    int r = BIND(half->group, in_specs, prefix, half, &first, err);
    return r < 0 ? r : BIND(half->group, out_specs, prefix, half, &last, err);
}

/* The shortcut of level i takes means over, or repeats, whole channels only. */
static int check_level(const VaeLevel *l, const char *part, int64_t i, bool up, Err *err) {
    int64_t cells = (int64_t)l->ft * l->fs * l->fs;
    int64_t many = cells * (up ? l->c_out : l->c_in), few = up ? l->c_in : l->c_out;
    if ((up && l->fs == 1) || many % few == 0)
        return 0;
    return err_set(err, -EINVAL,
            "vae: the widths %" PRId64 " and %" PRId64 " of %s level %" PRId64
            " do not fit its shortcut: %" PRId64 " is not a multiple of %" PRId64,
            l->c_in, l->c_out, part, i, many, few);
}

static int encoder_bind(Vae *v, Err *err) {
    const VaeDims *d = &v->dims;
    VaeHalf *half = &v->encoder;
    int64_t n = d->n_levels, width = d->base;
    int r = 0;
    half->n_levels = n;
    half->n_res = d->n_res_blocks;
    for (int i = 0; i < n; i++) {
        VaeLevel *l = &half->level[i];
        l->c_in = width;
        l->c_out = width = d->base * d->mult[i];
        l->fs = i < n - 1 ? 2 : 1;
        l->ft = i < n - 1 && d->temporal[i] ? 2 : 1;
        r = check_level(l, "encoder", i, false, err);
        if (r == 0)
            r = bind_level(half, "encoder", "down", i, err);
        if (r < 0)
            return r;
    }
    r = bind_middle(half, "encoder", width, err);
    if (r == 0)
        r = bind_ends(half, "encoder", d->patched, 2 * d->latent, err);
    Widths c = {.c_out = 2 * d->latent};
    return r < 0 ? r : BIND(half->group, latent_specs, "quant_conv.", half, &c, err);
}

/* The encoder's levels in reverse, each with one residual block more. */
static int decoder_bind(Vae *v, Err *err) {
    const VaeDims *d = &v->dims;
    VaeHalf *half = &v->decoder;
    int64_t n = d->n_levels, width = d->decoder_base * d->mult[n - 1];
    half->n_levels = n;
    half->n_res = d->n_res_blocks + 1;
    half->level[0].c_in = width; /* for bind_ends() */
    int r = bind_middle(half, "decoder", width, err);
    for (int i = 0; r == 0 && i < n; i++) {
        VaeLevel *l = &half->level[i];
        l->c_in = width;
        l->c_out = width = d->decoder_base * d->mult[n - 1 - i];
        l->fs = i < n - 1 ? 2 : 1;
        l->ft = i < n - 1 && d->temporal[n - 2 - i] ? 2 : 1;
        r = check_level(l, "decoder", i, true, err);
        if (r == 0)
            r = bind_level(half, "decoder", "up", i, err);
    }
    if (r == 0)
        r = bind_ends(half, "decoder", d->latent, d->patched, err);
    Widths c = {.c_out = d->latent};
    return r < 0 ? r : BIND(half->group, latent_specs, "post_quant_conv.", half, &c, err);
}

DEFINE_CLEANUP(Vae, vae_free)

int vae_new(Checkpoint *c, const VaeDims *d, Vae **ret, Err *err) {
    if (d->n_res_blocks < 1 || d->n_res_blocks >= VAE_MAX_RES)
        return err_set(err, -EINVAL, "vae: %" PRId64 " residual blocks a level, wanted are 1 to %d",
                d->n_res_blocks, VAE_MAX_RES - 1);
    _cleanup_(vae_freep) Vae *v = calloc(1, sizeof(*v));
    if (!v)
        return err_set(err, -ENOMEM, "no memory for the vae");
    v->dims = *d;
    int r = weights_new(c, "vae", &v->weights, err);
    if (r == 0)
        r = weights_add_group(v->weights, "encoder", &v->encoder.group, err);
    if (r == 0)
        r = weights_add_group(v->weights, "decoder", &v->decoder.group, err);
    if (r == 0)
        r = encoder_bind(v, err);
    if (r == 0)
        r = decoder_bind(v, err);
    if (r == 0)
        *ret = TAKE_PTR(v);
    return r;
}

Vae *vae_free(Vae *v) {
    if (!v)
        return NULL;
    weights_free(v->weights);
    free(v);
    return NULL;
}

Weights *vae_weights(const Vae *v) {
    return v->weights;
}

WeightGroup *vae_encoder_group(const Vae *v) {
    return v->encoder.group;
}

WeightGroup *vae_decoder_group(const Vae *v) {
    return v->decoder.group;
}

int64_t vae_latent_frames(const VaeDims *d, int64_t n_frames) {
    assert(n_frames >= 1);
    return (n_frames - 1) / d->stride_t + 1;
}

int64_t vae_pixel_frames(const VaeDims *d, int64_t n_latent) {
    assert(n_latent >= 1);
    return (n_latent - 1) * d->stride_t + 1;
}
