#include "model/dims.h"

#include "base/json.h"
#include "base/macro.h"
#include "base/str.h"

#include <errno.h>
#include <math.h>

/* A size of a struct: where it goes and what it may be. */
typedef struct SizeKey {
    const char *key;
    size_t offset; /* of an int64_t */
    int64_t min, max;
} SizeKey;

/* A setting that the code supports in one form only. */
typedef struct FixedKey {
    const char *key;
    const char *wanted; /* JSON */
    JsonNeed need;      /* optional: the reference's own default is the wanted value */
} FixedKey;

static int parse_object(const char *text, size_t n, json_t **ret, Err *err) {
    _cleanup_json_ json_t *j = NULL;
    int r = json_parse(text, n, &j, err);
    if (r < 0)
        return r;
    if (!json_is_object(j))
        return err_set(err, -EINVAL, "the file is not a JSON object");
    *ret = TAKE_PTR(j);
    return 0;
}

static int read_sizes(const json_t *j, const SizeKey keys[], size_t n, void *dims, Err *err) {
    for (size_t i = 0; i < n; i++) {
        int64_t *to = (int64_t *)((char *)dims + keys[i].offset);
        int r = json_get_int(j, "", keys[i].key, JSON_REQUIRED, keys[i].min, keys[i].max, to, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int refuse(const char *key, const json_t *found, const char *wanted, Err *err) {
    _cleanup_free_ char *text = found ? json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    return err_set(err, -EINVAL, "'%s' is %.100s, only %s is supported", key,
            found ? text ? text : "another value" : "missing", wanted);
}

static int check_fixed(const json_t *j, const FixedKey keys[], size_t n, Err *err) {
    for (size_t i = 0; i < n; i++) {
        const json_t *found = json_object_get(j, keys[i].key);
        if (!found && keys[i].need == JSON_OPTIONAL)
            continue;
        _cleanup_json_ json_t *wanted = json_loads(keys[i].wanted, JSON_DECODE_ANY, NULL);
        if (!wanted)
            return err_set(err, -ENOMEM, "no memory to compare '%s'", keys[i].key);
        bool same = found && (json_is_number(wanted) && json_is_number(found)
                                             ? json_number_value(found) == json_number_value(wanted)
                                             : json_equal(found, wanted));
        if (!same)
            return refuse(keys[i].key, found, keys[i].wanted, err);
    }
    return 0;
}

static int read_eps(const json_t *j, const char *key, double *ret, Err *err) {
    double eps = 0;
    int r = json_get_real(j, "", key, JSON_REQUIRED, &eps, err);
    if (r < 0)
        return r;
    if (!(eps > 0 && eps < 1))
        return err_set(err, -EINVAL, "'%s' is %g, it must be between 0 and 1", key, eps);
    *ret = eps;
    return 0;
}

enum { MAX_LAYERS = 256, MAX_HEADS = 1024, MAX_HEAD_DIM = 1024, MAX_WIDTH = 1 << 20 };

/* clang-format off */
static const SizeKey t5_sizes[] = {
    {"vocab_size", offsetof(T5Dims, vocab), 1, 1 << 24},
    {"d_model", offsetof(T5Dims, dim), 2, MAX_WIDTH},
    {"num_heads", offsetof(T5Dims, n_heads), 1, MAX_HEADS},
    {"d_kv", offsetof(T5Dims, head_dim), 1, MAX_HEAD_DIM},
    {"d_ff", offsetof(T5Dims, ffn), 1, MAX_WIDTH},
    {"num_layers", offsetof(T5Dims, n_layers), 1, MAX_LAYERS},
    {"relative_attention_num_buckets", offsetof(T5Dims, n_buckets), 4, 1024},
    {"relative_attention_max_distance", offsetof(T5Dims, max_distance), 2, 1 << 20},
};
static const FixedKey t5_fixed[] = {
    {"model_type", "\"umt5\"", JSON_REQUIRED},
    {"feed_forward_proj", "\"gated-gelu\"", JSON_OPTIONAL},
};

static const SizeKey dit_sizes[] = {
    {"num_layers", offsetof(DitDims, n_layers), 1, MAX_LAYERS},
    {"num_attention_heads", offsetof(DitDims, n_heads), 1, MAX_HEADS},
    {"attention_head_dim", offsetof(DitDims, head_dim), 2, MAX_HEAD_DIM},
    {"ffn_dim", offsetof(DitDims, ffn), 1, MAX_WIDTH},
    {"in_channels", offsetof(DitDims, in_channels), 1, VAE_MAX_LATENT},
    {"out_channels", offsetof(DitDims, out_channels), 1, VAE_MAX_LATENT},
    {"freq_dim", offsetof(DitDims, freq_dim), 2, 1 << 16},
    {"text_dim", offsetof(DitDims, text_dim), 2, MAX_WIDTH},
    {"rope_max_seq_len", offsetof(DitDims, rope_max), 1, 1 << 20},
};
static const FixedKey dit_fixed[] = {
    {"qk_norm", "\"rms_norm_across_heads\"", JSON_OPTIONAL},
    {"cross_attn_norm", "true", JSON_OPTIONAL},
    {"image_dim", "null", JSON_OPTIONAL},
    {"added_kv_proj_dim", "null", JSON_OPTIONAL},
    {"pos_embed_seq_len", "null", JSON_OPTIONAL},
};

static const SizeKey vae_sizes[] = {
    {"z_dim", offsetof(VaeDims, latent), 1, VAE_MAX_LATENT},
    {"base_dim", offsetof(VaeDims, base), 1, 1 << 14},
    {"num_res_blocks", offsetof(VaeDims, n_res_blocks), 1, 16},
    {"patch_size", offsetof(VaeDims, patch), 1, 8},
    {"in_channels", offsetof(VaeDims, patched), 3, 192},
    {"scale_factor_temporal", offsetof(VaeDims, stride_t), 1, 1 << VAE_MAX_LEVELS},
    {"scale_factor_spatial", offsetof(VaeDims, stride_s), 1, 8 << VAE_MAX_LEVELS},
};
static const FixedKey vae_fixed[] = {
    {"is_residual", "true", JSON_REQUIRED},
    {"attn_scales", "[]", JSON_OPTIONAL},
};

static const FixedKey unipc_fixed[] = {
    {"prediction_type", "\"flow_prediction\"", JSON_REQUIRED},
    {"use_flow_sigmas", "true", JSON_REQUIRED},
    {"solver_order", "2", JSON_OPTIONAL},
    {"solver_type", "\"bh2\"", JSON_OPTIONAL},
    {"predict_x0", "true", JSON_OPTIONAL},
    {"lower_order_final", "true", JSON_OPTIONAL},
    {"disable_corrector", "[]", JSON_OPTIONAL},
    {"solver_p", "null", JSON_OPTIONAL},
    {"thresholding", "false", JSON_OPTIONAL},
    {"use_karras_sigmas", "false", JSON_OPTIONAL},
    {"use_exponential_sigmas", "false", JSON_OPTIONAL},
    {"use_beta_sigmas", "false", JSON_OPTIONAL},
    {"use_dynamic_shifting", "false", JSON_OPTIONAL},
    {"rescale_betas_zero_snr", "false", JSON_OPTIONAL},
    {"final_sigmas_type", "\"zero\"", JSON_OPTIONAL},
    {"shift_terminal", "null", JSON_OPTIONAL},
    {"sigma_min", "null", JSON_OPTIONAL},
    {"sigma_max", "null", JSON_OPTIONAL},
};
static const FixedKey euler_fixed[] = {
    {"use_dynamic_shifting", "false", JSON_OPTIONAL},
    {"use_karras_sigmas", "false", JSON_OPTIONAL},
    {"use_exponential_sigmas", "false", JSON_OPTIONAL},
    {"use_beta_sigmas", "false", JSON_OPTIONAL},
    {"invert_sigmas", "false", JSON_OPTIONAL},
    {"stochastic_sampling", "false", JSON_OPTIONAL},
    {"shift_terminal", "null", JSON_OPTIONAL},
};

static const FixedKey pipeline_fixed[] = {
    {"expand_timesteps", "true", JSON_OPTIONAL},
    {"boundary_ratio", "null", JSON_OPTIONAL},
};
/* clang-format on */

int dims_parse_t5(const char *text, size_t n, T5Dims *ret, Err *err) {
    _cleanup_json_ json_t *j = NULL;
    T5Dims d = {0};
    int r = parse_object(text, n, &j, err);
    if (r == 0)
        r = check_fixed(j, t5_fixed, ARRAY_LEN(t5_fixed), err);
    if (r == 0)
        r = read_sizes(j, t5_sizes, ARRAY_LEN(t5_sizes), &d, err);
    if (r == 0)
        r = read_eps(j, "layer_norm_epsilon", &d.eps, err);
    if (r < 0)
        return r;
    if (d.n_buckets % 4 != 0 || d.max_distance <= d.n_buckets / 4)
        return err_set(err, -EINVAL,
                "'relative_attention_num_buckets' is %jd and 'relative_attention_max_distance' is "
                "%jd, wanted are a multiple of 4 and more than a quarter of it",
                (intmax_t)d.n_buckets, (intmax_t)d.max_distance);
    d.inner = d.n_heads * d.head_dim;
    *ret = d;
    return 0;
}

/* The patch covers one frame and as many rows as columns. */
static int read_patch(const json_t *j, int64_t *ret, Err *err) {
    const json_t *patch = json_object_get(j, "patch_size");
    json_int_t p[3] = {0};
    for (size_t i = 0; i < 3; i++)
        p[i] = json_integer_value(json_array_get(patch, i)); /* 0 when it is anything else */
    if (json_array_size(patch) != 3 || p[0] != 1 || p[1] != p[2] || p[1] < 1 || p[1] > 16)
        return refuse("patch_size", patch, "[1,p,p] with p from 1 to 16", err);
    *ret = p[1];
    return 0;
}

int dims_parse_dit(const char *text, size_t n, DitDims *ret, Err *err) {
    _cleanup_json_ json_t *j = NULL;
    DitDims d = {0};
    int r = parse_object(text, n, &j, err);
    if (r == 0)
        r = check_fixed(j, dit_fixed, ARRAY_LEN(dit_fixed), err);
    if (r == 0)
        r = read_sizes(j, dit_sizes, ARRAY_LEN(dit_sizes), &d, err);
    if (r == 0)
        r = read_eps(j, "eps", &d.eps, err);
    if (r == 0)
        r = read_patch(j, &d.patch, err);
    if (r < 0)
        return r;
    if (d.head_dim % 2 != 0)
        return err_set(
                err, -EINVAL, "'attention_head_dim' is %jd, it must be even", (intmax_t)d.head_dim);
    if (d.freq_dim % 2 != 0)
        return err_set(err, -EINVAL, "'freq_dim' is %jd, it must be even", (intmax_t)d.freq_dim);
    if (d.in_channels != d.out_channels)
        return err_set(err, -EINVAL, "'out_channels' is %jd, it must be in_channels, %jd",
                (intmax_t)d.out_channels, (intmax_t)d.in_channels);
    d.dim = d.n_heads * d.head_dim;
    d.modulation = 6 * d.dim;
    d.head = d.out_channels * d.patch * d.patch;
    *ret = d;
    return 0;
}

static int read_levels(const json_t *j, VaeDims *d, Err *err) {
    const json_t *mult = json_object_get(j, "dim_mult");
    const json_t *temporal = json_object_get(j, "temperal_downsample"); /* spelled so */
    size_t n = json_array_size(mult);
    if (n < 1 || n > VAE_MAX_LEVELS)
        return refuse("dim_mult", mult, "an array of 1 to 8 integers from 1 to 64", err);
    for (size_t i = 0; i < n; i++) {
        d->mult[i] = json_integer_value(json_array_get(mult, i));
        if (d->mult[i] < 1 || d->mult[i] > 64)
            return refuse("dim_mult", mult, "an array of 1 to 8 integers from 1 to 64", err);
    }
    if (!json_is_array(temporal) || json_array_size(temporal) != n - 1)
        return refuse(
                "temperal_downsample", temporal, "an array of one boolean less than dim_mult", err);
    for (size_t i = 0; i + 1 < n; i++) {
        const json_t *flag = json_array_get(temporal, i);
        if (!json_is_boolean(flag))
            return refuse("temperal_downsample", temporal,
                    "an array of one boolean less than dim_mult", err);
        d->temporal[i] = json_is_true(flag);
    }
    d->n_levels = (int64_t)n;
    return 0;
}

static int read_statistic(
        const json_t *j, const char *key, int64_t n, double min, float to[], Err *err) {
    const json_t *list = json_object_get(j, key);
    if (json_array_size(list) != (size_t)n)
        return err_set(err, -EINVAL, "'%s' has %zu numbers, z_dim is %jd", key,
                json_array_size(list), (intmax_t)n);
    for (int64_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        double x = json_number_value(v);
        if (!json_is_number(v) || !(fabs(x) <= 1e6) || x < min)
            return err_set(err, -EINVAL, "'%s[%jd]' is not a number from %g to 1e6", key,
                    (intmax_t)i, min);
        to[i] = (float)x;
    }
    return 0;
}

/* Strides follow from the levels; a file that says otherwise describes another network. */
static int check_strides(const VaeDims *d, Err *err) {
    int64_t stride_t = 1, stride_s = d->patch;
    for (int64_t i = 0; i + 1 < d->n_levels; i++) {
        stride_t *= d->temporal[i] ? 2 : 1;
        stride_s *= 2;
    }
    if (d->stride_t != stride_t)
        return err_set(err, -EINVAL, "'scale_factor_temporal' is %jd, the levels give %jd",
                (intmax_t)d->stride_t, (intmax_t)stride_t);
    if (d->stride_s != stride_s)
        return err_set(err, -EINVAL, "'scale_factor_spatial' is %jd, the levels give %jd",
                (intmax_t)d->stride_s, (intmax_t)stride_s);
    return 0;
}

int dims_parse_vae(const char *text, size_t n, VaeDims *ret, Err *err) {
    _cleanup_json_ json_t *j = NULL;
    VaeDims d = {0};
    int r = parse_object(text, n, &j, err);
    if (r == 0)
        r = check_fixed(j, vae_fixed, ARRAY_LEN(vae_fixed), err);
    if (r == 0)
        r = read_sizes(j, vae_sizes, ARRAY_LEN(vae_sizes), &d, err);
    if (r < 0)
        return r;
    int64_t out_channels = d.patched;
    d.decoder_base = d.base; /* what an absent decoder_base_dim means */
    r = json_get_int(j, "", "decoder_base_dim", JSON_OPTIONAL, 1, 1 << 14, &d.decoder_base, err);
    if (r == 0)
        r = json_get_int(j, "", "out_channels", JSON_OPTIONAL, 3, 192, &out_channels, err);
    if (r == 0)
        r = read_levels(j, &d, err);
    if (r == 0)
        r = read_statistic(j, "latents_mean", d.latent, -1e6, d.mean, err);
    if (r == 0)
        r = read_statistic(j, "latents_std", d.latent, 1e-6, d.std, err);
    if (r == 0)
        r = check_strides(&d, err);
    if (r < 0)
        return r;
    if (d.patched != 3 * d.patch * d.patch || out_channels != d.patched)
        return err_set(err, -EINVAL,
                "'in_channels' is %jd and 'out_channels' is %jd, a patch_size of %jd gives %jd",
                (intmax_t)d.patched, (intmax_t)out_channels, (intmax_t)d.patch,
                (intmax_t)(3 * d.patch * d.patch));
    *ret = d;
    return 0;
}

int dims_parse_scheduler(const char *text, size_t n, SchedulerConfig *ret, Err *err) {
    _cleanup_json_ json_t *j = NULL;
    const char *class = NULL;
    SchedulerConfig c = {.shift = 1};
    int r = parse_object(text, n, &j, err);
    if (r == 0)
        r = json_get_string(j, "", "_class_name", JSON_REQUIRED, &class, err);
    if (r == 0)
        r = json_get_int(j, "", "num_train_timesteps", JSON_REQUIRED, 2, 1000000, &c.n_train, err);
    if (r < 0)
        return r;
    if (str_eq(class, "UniPCMultistepScheduler")) {
        c.kind = SAMPLER_UNIPC;
        r = check_fixed(j, unipc_fixed, ARRAY_LEN(unipc_fixed), err);
    } else if (str_eq(class, "FlowMatchEulerDiscreteScheduler")) {
        c.kind = SAMPLER_EULER;
        r = check_fixed(j, euler_fixed, ARRAY_LEN(euler_fixed), err);
    } else {
        r = refuse("_class_name", json_object_get(j, "_class_name"),
                "UniPCMultistepScheduler or FlowMatchEulerDiscreteScheduler", err);
    }
    const char *key = c.kind == SAMPLER_UNIPC ? "flow_shift" : "shift";
    if (r == 0)
        r = json_get_real(j, "", key, JSON_OPTIONAL, &c.shift, err);
    if (r < 0)
        return r;
    if (!(c.shift >= 0.01 && c.shift <= 100))
        return err_set(err, -EINVAL, "'%s' is %g, it must be from 0.01 to 100", key, c.shift);
    *ret = c;
    return 0;
}

static int check_pipeline(const char *text, size_t n, Err *err) {
    _cleanup_json_ json_t *j = NULL;
    int r = parse_object(text, n, &j, err);
    return r < 0 ? r : check_fixed(j, pipeline_fixed, ARRAY_LEN(pipeline_fixed), err);
}

static int check_parts(const ModelDims *d, Err *err) {
    if (d->dit.text_dim != d->t5.dim)
        return err_set(err, -EINVAL,
                "the transformer's 'text_dim' is %jd, the text encoder's "
                "'d_model' is %jd",
                (intmax_t)d->dit.text_dim, (intmax_t)d->t5.dim);
    if (d->dit.in_channels != d->vae.latent)
        return err_set(err, -EINVAL,
                "the transformer's 'in_channels' is %jd, the VAE's 'z_dim' is "
                "%jd",
                (intmax_t)d->dit.in_channels, (intmax_t)d->vae.latent);
    return 0;
}

static int named(int r, const char *path, Err *err) {
    return r < 0 ? err_prefix(err, r, "'%s'", path) : 0;
}

int dims_read(const Checkpoint *c, ModelDims *ret, Err *err) {
    static const char *const path[] = {"model_index.json", "text_encoder/config.json",
            "transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"};
    const char *text[ARRAY_LEN(path)];
    size_t n[ARRAY_LEN(path)];
    for (size_t i = 0; i < ARRAY_LEN(path); i++) {
        int r = checkpoint_file(c, path[i], &text[i], &n[i], err);
        if (r < 0)
            return r;
    }
    ModelDims d = {0};
    int r = named(check_pipeline(text[0], n[0], err), path[0], err);
    if (r == 0)
        r = named(dims_parse_t5(text[1], n[1], &d.t5, err), path[1], err);
    if (r == 0)
        r = named(dims_parse_dit(text[2], n[2], &d.dit, err), path[2], err);
    if (r == 0)
        r = named(dims_parse_vae(text[3], n[3], &d.vae, err), path[3], err);
    if (r == 0)
        r = named(dims_parse_scheduler(text[4], n[4], &d.scheduler, err), path[4], err);
    if (r == 0)
        r = check_parts(&d, err);
    if (r < 0)
        return r;
    *ret = d;
    return 0;
}
