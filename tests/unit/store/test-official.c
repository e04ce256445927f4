#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "model.h"
#include "store/checkpoint.h"

#include <errno.h>

/* The same random model in both layouts (tests/golden/official/make_official.py), and what is wrong
 * with directories of the official one. */

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)

#define T5 "models_t5_umt5-xxl-enc-bf16.pth"
#define VAE "Wan2.2_VAE.pth"
#define SHARD(i) "diffusion_pytorch_model-0000" #i "-of-00002.safetensors"
#define INDEX "diffusion_pytorch_model.safetensors.index.json"
#define SPIECE "google/umt5-xxl/spiece.model"

static void layouts_give_the_same_tensors(void **state) {
    _cleanup_(manifest_freep) Manifest *a = NULL, *b = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *x = NULL, *y = NULL;
    Err err = {0};
    if (manifest_scan(OFFICIAL_MODEL, 0, &a, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(manifest_scan(DIFFUSERS_MODEL, 0, &b, NULL), 0);
    assert_int_equal(checkpoint_open_files(a, &x, NULL), 0);
    assert_int_equal(checkpoint_open_files(b, &y, NULL), 0);
    assert_int_equal(manifest_n_tensors(a), manifest_n_tensors(b));
    assert_int_equal(manifest_n_files(a), 4);
    for (size_t i = 0; i < manifest_n_tensors(a); i++) {
        const ManifestTensor *t = manifest_tensor(a, i), *u = manifest_tensor(b, i);
        View v, w;
        assert_string_equal(t->part, u->part);
        assert_string_equal(t->name, u->name);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->rank, u->rank);
        assert_memory_equal(t->dim, u->dim, sizeof(t->dim));
        assert_int_equal(checkpoint_find(x, t->part, t->name, &v, NULL), 0);
        assert_int_equal(checkpoint_find(y, t->part, t->name, &w, NULL), 0);
        assert_memory_equal(v.data, w.data, t->bytes);
    }
}

/* Digests, and what they are for: a changed byte is found. */
static void manifests_are_built_and_verified(void **state) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    Err err = {0};
    if (manifest_build(OFFICIAL_MODEL, NULL, &m, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(manifest_verify(m, NULL, NULL), 0);
    assert_int_equal(manifest_check_headers(m, NULL), 0);
    for (size_t i = 0; i < manifest_n_tensors(m); i++)
        assert_int_equal(manifest_tensor(m, i)->n_nonfinite, 0);
}

static void path_of(const Model *m, const char *name, char full[static 512]) {
    (void)snprintf(full, 512, "%s/%s", m->dir, name);
}

/* A copy of the fixture that may be changed. */
static void copy_model(Model *m) {
    static const char *const dirs[] = {"google", "google/umt5-xxl", "scheduler", "vae"};
    static const char *const files[] = {T5, VAE, SHARD(1), SHARD(2), INDEX, "config.json", SPIECE,
            "model_index.json", "vae/config.json", "scheduler/scheduler_config.json"};
    char path[512];
    *m = (Model){"/tmp/preheat-test-XXXXXX"};
    assert_non_null(mkdtemp(m->dir));
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        path_of(m, dirs[i], path);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        _cleanup_free_ char *data = NULL;
        size_t n;
        (void)snprintf(path, sizeof(path), OFFICIAL_MODEL "/%s", files[i]);
        assert_int_equal(io_read_file(AT_FDCWD, path, 16 << 20, &data, &n, NULL), 0);
        model_write(m, files[i], data, n);
    }
}

static void take_away(const Model *m, const char *name) {
    char path[512];
    path_of(m, name, path);
    assert_int_equal(unlink(path), 0);
}

static void move(const Model *m, const char *from, const char *to) {
    char a[512], b[512];
    path_of(m, from, a);
    path_of(m, to, b);
    assert_int_equal(rename(a, b), 0);
}

/* In place of all weights: files of tensors that have a shape and no bytes that matter. */
typedef struct Tensor {
    const char *name, *dtype, *shape;
    size_t bytes;
} Tensor;

static void weights(const Model *m, const char *path, const Tensor *t, size_t n) {
    char json[4096] = "", *file;
    size_t used = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        used += (size_t)snprintf(json + used, sizeof(json) - used,
                "%c\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                i ? ',' : '{', t[i].name, t[i].dtype, t[i].shape, total, total + t[i].bytes);
        total += t[i].bytes;
    }
    json[used++] = '}';
    while (used % 8)
        json[used++] = ' ';
    assert_true(used < sizeof(json));
    file = calloc(1, 8 + used + total);
    memcpy(file, &used, 8);
    memcpy(file + 8, json, used);
    memset(file + 8 + used, 'p', total);
    model_write(m, path, file, 8 + used + total);
    free(file);
}

static void unchanged(const Model *m) {}
static void no_index(const Model *m) {
    take_away(m, INDEX); /* the shards are read as files of their own */
}
static void other_file_names(const Model *m) {
    move(m, T5, "text.pth");
    move(m, VAE, "a.pth");
}
static void hidden_files(const Model *m) {
    model_text(m, "._" VAE, "not a weight file");
    model_text(m, "README.md", "neither");
}
static void spiece_beside(const Model *m) {
    move(m, SPIECE, "spiece.model");
}
static void spiece_in_tensor(const Model *m) {
    take_away(m, SPIECE);
    weights(m, "t.safetensors",
            (Tensor[]){{"shared.extra", "BF16", "[1]", 2},
                    {"encoder.embed_tokens.weight", "BF16", "[1]", 2},
                    {"spiece_model", "U8", "[9]", 9}},
            3);
}
static void no_configs(const Model *m) {
    take_away(m, "model_index.json");
    take_away(m, "scheduler/scheduler_config.json");
}
static void with_transformer(const Model *m) {
    char path[512];
    path_of(m, "transformer", path);
    assert_int_equal(mkdir(path, 0755), 0);
}
static void nothing(const Model *m) {
    take_away(m, T5);
    take_away(m, VAE);
    take_away(m, SHARD(1));
    take_away(m, SHARD(2));
    take_away(m, "model_index.json");
}
static void no_t5(const Model *m) {
    take_away(m, T5);
}
static void no_vae(const Model *m) {
    take_away(m, VAE);
    take_away(m, "vae/config.json");
}
static void no_shard(const Model *m) {
    take_away(m, SHARD(2));
}
static void no_spiece(const Model *m) {
    take_away(m, SPIECE);
}
static void bad_spiece_tensor(const Model *m) {
    take_away(m, SPIECE);
    weights(m, "t.safetensors", (Tensor[]){{"spiece_model", "F32", "[1]", 4}}, 1);
}
static void foreign_file(const Model *m) {
    weights(m, "lora.safetensors", (Tensor[]){{"lora_up.weight", "F32", "[1]", 4}}, 1);
}
static void twice(const Model *m) {
    weights(m, "more.safetensors", (Tensor[]){{"norm.weight", "F32", "[1]", 4}}, 1);
}
static void image_branch(const Model *m) {
    weights(m, "more.safetensors",
            (Tensor[]){
                    {"head.modulation", "F32", "[1]", 4}, {"img_emb.proj.0.bias", "F32", "[1]", 4}},
            2);
}
static void cut_pth(const Model *m) {
    char path[512];
    path_of(m, VAE, path);
    assert_int_equal(truncate(path, 1000), 0);
}
static void text_pth(const Model *m) {
    model_text(m, VAE, "version https://git-lfs.github.com/spec/v1\n");
}
static void unaligned_pth(const Model *m) {
    _cleanup_free_ char *data = NULL;
    size_t n;
    assert_int_equal(io_read_file(AT_FDCWD, PTH_CORPUS "/unaligned", 1 << 20, &data, &n, NULL), 0);
    model_write(m, VAE, data, n);
}
static void object_pth(const Model *m) {
    _cleanup_free_ char *data = NULL;
    size_t n;
    assert_int_equal(io_read_file(AT_FDCWD, PTH_CORPUS "/object", 1 << 20, &data, &n, NULL), 0);
    model_write(m, VAE, data, n);
}
static void config(const Model *m, const char *text) {
    model_text(m, "config.json", text);
}
static void config_is_text(const Model *m) {
    config(m, "no");
}
static void config_is_array(const Model *m) {
    config(m, "[]");
}
static void other_class(const Model *m) {
    config(m, "{\"_class_name\":\"FluxModel\",\"num_heads\":3}");
}
static void other_type(const Model *m) {
    config(m, "{\"model_type\":\"i2v\",\"num_heads\":3}");
}
static void other_layers(const Model *m) {
    config(m, "{\"num_layers\":3,\"num_heads\":3}");
}
static void other_width(const Model *m) {
    config(m, "{\"dim\":3072,\"num_heads\":3}");
}
static void other_text_length(const Model *m) {
    config(m, "{\"text_len\":256,\"num_heads\":3}");
}
static void no_heads(const Model *m) {
    config(m, "{}");
}
static void odd_heads(const Model *m) {
    config(m, "{\"num_heads\":4}");
}
static void no_config(const Model *m) {
    take_away(m, "config.json");
}
static void no_statistics(const Model *m) {
    take_away(m, "vae/config.json");
}
static void many_levels(const Model *m) {
    take_away(m, "vae/config.json");
    weights(m, "more.safetensors",
            (Tensor[]){{"encoder.downsamples.8.downsamples.0.residual.0.gamma", "F32", "[1]", 4}},
            1);
}
static void dit_with_patch(const Model *m, const char *shape) {
    take_away(m, SHARD(1));
    take_away(m, SHARD(2));
    take_away(m, INDEX);
    weights(m, "dit.safetensors",
            (Tensor[]){{"patch_embedding.weight", "U8", shape, 65 * 65},
                    {"blocks.0.ffn.0.weight", "U8", "[1,1]", 1},
                    {"time_embedding.0.weight", "U8", "[1,1]", 1},
                    {"text_embedding.0.weight", "U8", "[1,1]", 1},
                    {"head.head.weight", "U8", "[1,1]", 1}},
            5);
}
static void huge_patch(const Model *m) {
    dit_with_patch(m, "[1,1,1,65,65]");
}
static void flat_patch(const Model *m) {
    dit_with_patch(m, "[65,65]");
}
static void huge_tokenizer(const Model *m) {
    take_away(m, SPIECE);
    weights(m, "t.safetensors", (Tensor[]){{"spiece_model", "U8", "[67108865]", 67108865}}, 1);
}
static void bad_statistics(const Model *m) {
    model_text(m, "vae/config.json", "{\"z_dim\":8,\"z_dim\":9}");
}

static const struct {
    void (*change)(const Model *m);
    int code;
    const char *says;
} cases[] = {
        {unchanged, 0, ""},
        {no_index, 0, ""},
        {other_file_names, 0, ""},
        {hidden_files, 0, ""},
        {spiece_beside, 0, ""},
        {spiece_in_tensor, 0, ""},
        {no_configs, 0, ""},
        {with_transformer, -ENOENT, "text_encoder/config.json"},
        {nothing, -ENOENT,
                "neither 'model_index.json', as the Diffusers layout, nor a .safetensors"},
        {no_t5, -ENOENT,
                "no file has the tensor 'encoder.embed_tokens.weight' of the text_encoder"},
        {no_vae, -ENOENT, "no file has the tensor 'post_quant_conv.weight' of the vae"},
        {no_shard, -ENOENT, SHARD(2)},
        {no_spiece, -ENOENT, "there is no tokenizer"},
        {bad_spiece_tensor, -EBADMSG, "tensor 'spiece_model' is no list"},
        {foreign_file, -EINVAL,
                "'lora.safetensors': no tensor has a name of this architecture, its first is "
                "'lora_up.weight'"},
        {twice, -EINVAL, "tensor 'encoder.final_layer_norm.weight' of the text_encoder is in 'm"},
        {image_branch, -EINVAL, "'img_emb.proj.0.bias' belongs to a model with an image encoder"},
        {cut_pth, -EBADMSG, "'" VAE "': it does not end as a zip archive"},
        {text_pth, -EBADMSG, "'" VAE "': it does not end as a zip archive"},
        {unaligned_pth, -EBADMSG, "tensor 'a' of F32 begins at the odd file byte"},
        {object_pth, -EBADMSG, "'" VAE "': 'object/data.pkl': it asks for '__main__.Layer'"},
        {config_is_text, -EINVAL, "'config.json'"},
        {config_is_array, -EINVAL, "'config.json': the file is not a JSON object"},
        {other_class, -EINVAL, "'_class_name' is 'FluxModel', it must be 'WanModel'"},
        {other_type, -EINVAL, "'model_type' is 'i2v'"},
        {other_layers, -EINVAL, "'config.json': 'num_layers' is 3, the tensors have 2"},
        {other_width, -EINVAL, "'dim' is 3072, the tensors have 150"},
        {other_text_length, -EINVAL, "'text_len' is 256, the tensors have 512"},
        {no_heads, -EINVAL, "num_heads"},
        {odd_heads, -EBADMSG, "heads: 150 is not a multiple of 4"},
        {no_config, -EINVAL, "must be told by 'num_heads' in a file 'config.json'"},
        {no_statistics, -EINVAL, "the VAE has 8 latent channels"},
        {bad_statistics, -EINVAL, "'vae/config.json'"},
        {many_levels, -EBADMSG, "the VAE has 9 levels, 1 to 8 are possible"},
        {huge_patch, -EBADMSG, "the transformer's patch has 65 rows"},
        {flat_patch, -EBADMSG,
                "'dit.safetensors': tensor 'patch_embedding.weight' is [65,65], it must have 5 "
                "axes"},
        {huge_tokenizer, -EBADMSG, "is no list of at most 67108864 bytes"},
};

static void directories_are_read_or_refused(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Model model;
        Manifest *m = NULL;
        Err err = {0};
        copy_model(&model);
        cases[i].change(&model);
        int r = manifest_scan(model.dir, 0, &m, &err);
        if (r != cases[i].code || (r < 0 && !strstr(err_text(&err), cases[i].says)))
            fail_msg("case %zu (%s): %d, %s", i, cases[i].says, r, err_text(&err));
        if (r < 0)
            assert_non_null(strstr(err_text(&err), model.dir));
        manifest_free(m);
        model_done(&model);
    }
}

/* A tokenizer that is a tensor becomes a small file and no tensor; what is unknown stays, to be
 * reported. */
static void tokenizer_comes_out_of_the_tensor(void **state) {
    Model model;
    _cleanup_(manifest_freep) Manifest *m = NULL;
    copy_model(&model);
    spiece_in_tensor(&model);
    assert_int_equal(manifest_scan(model.dir, 0, &m, NULL), 0);
    const ManifestSmall *spiece = NULL;
    for (size_t i = 0; i < manifest_n_smalls(m); i++)
        if (str_eq(manifest_small(m, i)->path, "tokenizer/spiece.model"))
            spiece = manifest_small(m, i);
    assert_non_null(spiece);
    assert_int_equal(spiece->bytes, 9);
    assert_string_equal(spiece->data, "ppppppppp");
    assert_null(manifest_find_tensor(m, "text_encoder", "spiece_model"));
    assert_non_null(manifest_find_tensor(m, "text_encoder", "t.safetensors:shared.extra"));
    model_done(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(layouts_give_the_same_tensors),
            cmocka_unit_test(manifests_are_built_and_verified),
            cmocka_unit_test(directories_are_read_or_refused),
            cmocka_unit_test(tokenizer_comes_out_of_the_tensor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
