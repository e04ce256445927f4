#include "store/official-config.h"

#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "store/small-file.h"

#include <fcntl.h>
#include <inttypes.h>

/* Of the 48 latent channels of Wan2.2's VAE, in the official code and in Diffusers' configuration.
 */
/* clang-format off */
static const double latents_mean[] = {
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799,  0.0174,  0.1838,  0.1557,
    -0.1382,  0.0542,  0.2813,  0.0891,  0.1570, -0.0098,  0.0375, -0.1825,
    -0.2246, -0.1207, -0.0698,  0.5109,  0.2665, -0.2108, -0.2158,  0.2502,
    -0.2055, -0.0322,  0.1109,  0.1567, -0.0729,  0.0899, -0.2799, -0.1230,
    -0.0313, -0.1649,  0.0117,  0.0723, -0.2839, -0.2083, -0.0520,  0.3748,
     0.0152,  0.1957,  0.1433, -0.2944,  0.3573, -0.0548, -0.1681, -0.0667,
};
static const double latents_std[] = {
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
    0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
    0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
};
/* clang-format on */
enum { LATENT_CHANNELS = 48, HEAD_DIM = 128, MAX_NUMBER = 9999, MAX_LEVELS = 8 };
static_assert(
        ARRAY_LEN(latents_mean) == LATENT_CHANNELS && ARRAY_LEN(latents_std) == LATENT_CHANNELS,
        "one a channel");

static const char dit_config[] = "config.json";

static const ManifestTensor *find(const ManifestDraft *d, const char *part, const char *name) {
    ManifestTensor key = {.part = part, .name = name};
    return bsearch(&key, d->tensors.data, d->tensors.size / sizeof(key), sizeof(key),
            manifest_draft_by_name);
}

/* The extent of an axis of a tensor that must be there with as many axes. */
static int extent(const ManifestDraft *d, const char *part, const char *name, int rank, int axis,
        int64_t *ret, Err *err) {
    const ManifestTensor *t = find(d, part, name);
    if (!t)
        return err_set(err, -ENOENT, "no file has the tensor '%s' of the %s", name, part);
    const char *file = ((const ManifestFile *)d->files.data)[t->file].path;
    char shape[VIEW_TEXT_SIZE];
    if (t->rank != rank || t->dim[axis] < 1)
        return err_set(err, -EBADMSG, "'%s': tensor '%s' is %s, it must have %d axes, none empty",
                file, name, view_shape_text(t->rank, t->dim, shape), rank);
    *ret = t->dim[axis];
    return 0;
}

/* One more than the largest number that follows the prefix in a tensor's name. */
static int64_t count_numbered(const ManifestDraft *d, const char *part, const char *prefix) {
    const ManifestTensor *t = (const ManifestTensor *)d->tensors.data;
    int64_t count = 0;
    for (size_t i = 0; i < d->tensors.size / sizeof(*t); i++) {
        if (!str_eq(t[i].part, part) || !str_starts(t[i].name, prefix))
            continue;
        int64_t number = 0;
        const char *c = t[i].name + strlen(prefix);
        for (; *c >= '0' && *c <= '9' && number <= MAX_NUMBER; c++)
            number = number * 10 + (*c - '0');
        count = MAX(count, number + 1);
    }
    return count;
}

static int divide(int64_t a, int64_t b, const char *what, int64_t *ret, Err *err) {
    if (b < 1 || a % b != 0)
        return err_set(err, -EBADMSG, "%s: %" PRId64 " is not a multiple of %" PRId64, what, a, b);
    *ret = a / b;
    return 0;
}

/* j becomes the function's. */
static int add_json(const DraftSource *s, const char *as, json_t *j, Err *err) {
    _cleanup_json_ json_t *owned = j;
    _cleanup_free_ char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    if (!text)
        return err_set(err, -ENOMEM, "no memory for '%s'", as);
    return small_file_add(s, as, text, strlen(text), err);
}

typedef struct DitShape {
    int64_t dim, ffn, freq, in, out, text, n_layers, n_heads, patch;
    double eps;
} DitShape;

static int measure_dit(const ManifestDraft *d, DitShape *ret, Err *err) {
    static const char part[] = "transformer";
    DitShape m = {.eps = 1e-6, .n_layers = count_numbered(d, part, "blocks.")};
    int64_t head = 0;
    int r = extent(d, part, "patch_embedding.weight", 5, 0, &m.dim, err);
    if (r == 0)
        r = extent(d, part, "patch_embedding.weight", 5, 1, &m.in, err);
    if (r == 0)
        r = extent(d, part, "patch_embedding.weight", 5, 4, &m.patch, err);
    if (r == 0)
        r = extent(d, part, "blocks.0.ffn.net.0.proj.weight", 2, 0, &m.ffn, err);
    if (r == 0)
        r = extent(d, part, "condition_embedder.time_embedder.linear_1.weight", 2, 1, &m.freq, err);
    if (r == 0)
        r = extent(d, part, "condition_embedder.text_embedder.linear_1.weight", 2, 1, &m.text, err);
    if (r == 0)
        r = extent(d, part, "proj_out.weight", 2, 0, &head, err);
    if (r == 0 && m.patch > 64)
        return err_set(err, -EBADMSG, "the transformer's patch has %" PRId64 " rows", m.patch);
    if (r == 0)
        r = divide(head, m.patch * m.patch, "the transformer's outputs", &m.out, err);
    if (r == 0)
        *ret = m;
    return r;
}

/* What the DiT's config.json says of sizes must be what the tensors say; it alone knows heads and
 * eps. */
static int compare_dit(const json_t *j, DitShape *m, Err *err) {
    const struct {
        const char *key;
        int64_t measured;
    } sizes[] = {
            {"dim", m->dim},
            {"ffn_dim", m->ffn},
            {"freq_dim", m->freq},
            {"in_dim", m->in},
            {"out_dim", m->out},
            {"text_dim", m->text},
            {"num_layers", m->n_layers},
            {"text_len", 512},
    };
    const char *class = "WanModel", *type = "ti2v";
    int r = json_get_string(j, "", "_class_name", JSON_OPTIONAL, &class, err);
    if (r == 0)
        r = json_get_string(j, "", "model_type", JSON_OPTIONAL, &type, err);
    if (r < 0)
        return r;
    if (!str_eq(class, "WanModel"))
        return err_set(err, -EINVAL, "'_class_name' is '%s', it must be 'WanModel'", class);
    if (!str_eq(type, "ti2v") && !str_eq(type, "t2v"))
        return err_set(err, -EINVAL, "'model_type' is '%s', it must be 'ti2v' or 't2v'", type);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        int64_t said = sizes[i].measured;
        r = json_get_int(j, "", sizes[i].key, JSON_OPTIONAL, 1, INT32_MAX, &said, err);
        if (r < 0)
            return r;
        if (said != sizes[i].measured)
            return err_set(err, -EINVAL, "'%s' is %" PRId64 ", the tensors have %" PRId64,
                    sizes[i].key, said, sizes[i].measured);
    }
    r = json_get_int(j, "", "num_heads", JSON_REQUIRED, 1, INT32_MAX, &m->n_heads, err);
    if (r == 0)
        r = json_get_real(j, "", "eps", JSON_OPTIONAL, &m->eps, err);
    return r;
}

static int read_dit_config(const DraftSource *s, DitShape *m, Err *err) {
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *j = NULL;
    size_t n;
    int r = io_read_file(s->fd, dit_config, SMALL_MAX_JSON, &text, &n, err);
    if (r == 0)
        r = json_parse(text, n, &j, err);
    if (r < 0)
        return r;
    return json_is_object(j) ? compare_dit(j, m, err)
                             : err_set(err, -EINVAL, "the file is not a JSON object");
}

static int make_dit(const DraftSource *s, Err *err) {
    DitShape m = {0};
    int64_t head_dim = 0;
    int r = measure_dit(s->draft, &m, err);
    if (r < 0)
        return r;
    bool told = faccessat(s->fd, dit_config, F_OK, 0) == 0;
    if (told)
        r = read_dit_config(s, &m, err);
    else if (m.dim % HEAD_DIM != 0)
        r = err_set(err, -EINVAL,
                "the transformer's width is %" PRId64 ", no multiple of %d: how many heads it has "
                "must be told by 'num_heads' in a file 'config.json'",
                m.dim, HEAD_DIM);
    else
        m.n_heads = m.dim / HEAD_DIM;
    if (r == 0)
        r = divide(m.dim, m.n_heads, "the transformer's heads", &head_dim, err);
    if (r < 0)
        return told ? err_prefix(err, r, "'%s'", dit_config) : r;
    return add_json(s, "transformer/config.json",
            json_pack("{ss sI sI sI s[iII] sI sI sI sI sI sf si sb ss}", "_class_name",
                    "WanTransformer3DModel", "num_layers", (json_int_t)m.n_layers,
                    "num_attention_heads", (json_int_t)m.n_heads, "attention_head_dim",
                    (json_int_t)head_dim, "patch_size", 1, (json_int_t)m.patch, (json_int_t)m.patch,
                    "ffn_dim", (json_int_t)m.ffn, "in_channels", (json_int_t)m.in, "out_channels",
                    (json_int_t)m.out, "freq_dim", (json_int_t)m.freq, "text_dim",
                    (json_int_t)m.text, "eps", m.eps, "rope_max_seq_len", 1024, "cross_attn_norm",
                    1, "qk_norm", "rms_norm_across_heads"),
            err);
}

static int make_t5(const DraftSource *s, Err *err) {
    static const char part[] = "text_encoder";
    const ManifestDraft *d = s->draft;
    const char *table =
            find(d, part, "shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight";
    int64_t vocab = 0, dim = 0, inner = 0, ffn = 0, n_buckets = 0, n_heads = 0, head_dim = 0;
    int r = extent(d, part, table, 2, 0, &vocab, err);
    if (r == 0)
        r = extent(d, part, table, 2, 1, &dim, err);
    if (r == 0)
        r = extent(d, part, "encoder.block.0.layer.0.SelfAttention.q.weight", 2, 0, &inner, err);
    if (r == 0)
        r = extent(d, part, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 2, 0, &ffn, err);
    static const char bias[] =
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    if (r == 0)
        r = extent(d, part, bias, 2, 0, &n_buckets, err);
    if (r == 0)
        r = extent(d, part, bias, 2, 1, &n_heads, err);
    if (r == 0)
        r = divide(inner, n_heads, "the text encoder's heads", &head_dim, err);
    if (r < 0)
        return r;
    return add_json(s, "text_encoder/config.json",
            json_pack("{ss ss sI sI sI sI sI sI sI si sf}", "model_type", "umt5",
                    "feed_forward_proj", "gated-gelu", "vocab_size", (json_int_t)vocab, "d_model",
                    (json_int_t)dim, "d_ff", (json_int_t)ffn, "num_heads", (json_int_t)n_heads,
                    "d_kv", (json_int_t)head_dim, "num_layers",
                    (json_int_t)count_numbered(d, part, "encoder.block."),
                    "relative_attention_num_buckets", (json_int_t)n_buckets,
                    "relative_attention_max_distance", 128, "layer_norm_epsilon", 1e-6),
            err);
}

typedef struct VaeShape {
    int64_t latent, base, decoder_base, patched, patch, n_levels, n_res;
    int64_t mult[MAX_LEVELS], stride_t, stride_s;
    bool temporal[MAX_LEVELS];
} VaeShape;

static int measure_level(const ManifestDraft *d, VaeShape *m, int i, Err *err) {
    char name[96];
    int64_t width = 0;
    (void)snprintf(name, sizeof(name), "encoder.down_blocks.%d.resnets.0.conv2.weight", i);
    int r = extent(d, "vae", name, 5, 0, &width, err);
    if (r == 0)
        r = divide(width, m->base, "the VAE's widths", &m->mult[i], err);
    if (r < 0 || i + 1 == m->n_levels)
        return r;
    (void)snprintf(name, sizeof(name), "encoder.down_blocks.%d.downsampler.time_conv.weight", i);
    m->temporal[i] = find(d, "vae", name) != NULL;
    m->stride_t *= m->temporal[i] ? 2 : 1;
    m->stride_s *= 2;
    return 0;
}

static int measure_vae(const ManifestDraft *d, VaeShape *ret, Err *err) {
    static const char part[] = "vae";
    VaeShape m = {.n_levels = count_numbered(d, part, "encoder.down_blocks."),
            .n_res = count_numbered(d, part, "encoder.down_blocks.0.resnets.")};
    int64_t top = 0;
    int r = extent(d, part, "post_quant_conv.weight", 5, 0, &m.latent, err);
    if (r == 0)
        r = extent(d, part, "encoder.conv_in.weight", 5, 0, &m.base, err);
    if (r == 0)
        r = extent(d, part, "encoder.conv_in.weight", 5, 1, &m.patched, err);
    if (r == 0)
        r = extent(d, part, "decoder.conv_in.weight", 5, 0, &top, err);
    if (r < 0)
        return r;
    if (m.n_levels < 1 || m.n_levels > MAX_LEVELS)
        return err_set(err, -EBADMSG, "the VAE has %" PRId64 " levels, 1 to %d are possible",
                m.n_levels, MAX_LEVELS);
    for (m.patch = 1; 3 * m.patch * m.patch < m.patched && m.patch < 64;)
        m.patch++;
    m.stride_t = 1;
    m.stride_s = m.patch;
    for (int i = 0; r == 0 && i < m.n_levels; i++)
        r = measure_level(d, &m, i, err);
    if (r == 0)
        r = divide(top, m.mult[m.n_levels - 1], "the VAE decoder's widths", &m.decoder_base, err);
    if (r == 0)
        *ret = m;
    return r;
}

static json_t *numbers(const double list[], size_t n) {
    json_t *j = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(j, json_real(list[i])); /* a short list is refused later */
    return j;
}

static int make_vae(const DraftSource *s, Err *err) {
    VaeShape m = {0};
    int r = measure_vae(s->draft, &m, err);
    if (r < 0)
        return r;
    if (m.latent != LATENT_CHANNELS)
        return err_set(err, -EINVAL,
                "the VAE has %" PRId64 " latent channels; mean and deviation are known for %d, "
                "others must be told by a file 'vae/config.json' in the Diffusers form",
                m.latent, LATENT_CHANNELS);
    json_t *mult = json_array(), *temporal = json_array();
    for (int64_t i = 0; i < m.n_levels; i++) {
        (void)json_array_append_new(mult, json_integer(m.mult[i])); /* as in numbers() */
        if (i + 1 < m.n_levels)
            (void)json_array_append_new(temporal, json_boolean(m.temporal[i]));
    }
    return add_json(s, "vae/config.json",
            json_pack("{ss sI sI sI so so sI sb s[] sI sI sI sI sI so so}", "_class_name",
                    "AutoencoderKLWan", "z_dim", (json_int_t)m.latent, "base_dim",
                    (json_int_t)m.base, "decoder_base_dim", (json_int_t)m.decoder_base, "dim_mult",
                    mult, "temperal_downsample", temporal, "num_res_blocks", (json_int_t)m.n_res,
                    "is_residual", 1, "attn_scales", "patch_size", (json_int_t)m.patch,
                    "in_channels", (json_int_t)m.patched, "out_channels", (json_int_t)m.patched,
                    "scale_factor_temporal", (json_int_t)m.stride_t, "scale_factor_spatial",
                    (json_int_t)m.stride_s, "latents_mean", numbers(latents_mean, LATENT_CHANNELS),
                    "latents_std", numbers(latents_std, LATENT_CHANNELS)),
            err);
}

/* As in the repository's Diffusers form: the official code's shift of 5. */
static int make_scheduler(const DraftSource *s, Err *err) {
    return add_json(s, "scheduler/scheduler_config.json",
            json_pack("{ss ss sb sf si}", "_class_name", "UniPCMultistepScheduler",
                    "prediction_type", "flow_prediction", "use_flow_sigmas", 1, "flow_shift", 5.0,
                    "num_train_timesteps", 1000),
            err);
}

static int make_index(const DraftSource *s, Err *err) {
    return add_json(s, "model_index.json",
            json_pack("{ss sb}", "_class_name", "WanPipeline", "expand_timesteps", 1), err);
}

int official_config_make(const DraftSource *s, Err *err) {
    static const struct {
        const char *path;
        int (*make)(const DraftSource *s, Err *err);
    } made[] = {
            {"transformer/config.json", make_dit},
            {"text_encoder/config.json", make_t5},
            {"vae/config.json", make_vae},
            {"scheduler/scheduler_config.json", make_scheduler},
            {"model_index.json", make_index},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(made); i++)
        if (!small_file_has(s, made[i].path))
            r = made[i].make(s, err);
    return r;
}
