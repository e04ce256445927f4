#include "test.h"

#include "backend/cpu/module.h"
#include "base/macro.h"
#include "model/model.h"
#include "tiny.h"

#include <errno.h>

#define TEXT "text_encoder/model.safetensors"
#define DIT "transformer/diffusion_pytorch_model.safetensors"
#define VAE "vae/diffusion_pytorch_model.safetensors"

/* A header that says something else about one tensor. */
static const struct {
    TinyEdit edit;
    int code;
    const char *sentence;
} refused[] = {
        {{DIT, "\"blocks.3.attn1.norm_q.weight\"", "\"blocks.3.attn1.norm_x.weight\""}, -ENOENT,
                "the model has no tensor 'blocks.3.attn1.norm_q.weight' in 'transformer'"},
        {{DIT, "\"blocks.1.ffn.net.0.proj.weight\":{\"dtype\":\"BF16\",\"shape\":[640,160]",
                 "\"blocks.1.ffn.net.0.proj.weight\":{\"dtype\":\"BF16\",\"shape\":[160,640]"},
                -EBADMSG,
                "'" DIT "': tensor 'blocks.1.ffn.net.0.proj.weight' is [160,640], the "
                "configuration wants [640,160]"},
        {{DIT, "\"blocks.1.scale_shift_table\":{\"dtype\":\"BF16\",\"shape\":[1,6,160]",
                 "\"blocks.1.scale_shift_table\":{\"dtype\":\"BF16\",\"shape\":[6,160]"},
                -EBADMSG,
                "'" DIT "': tensor 'blocks.1.scale_shift_table' is [6,160], the configuration "
                "wants [1,6,160]"},
        {{TEXT, "\"shared.weight\":{\"dtype\":\"BF16\",\"shape\":[1024,64]",
                 "\"shared.weight\":{\"dtype\":\"U8\",\"shape\":[2048,64]"},
                -EBADMSG,
                "'" TEXT "': tensor 'shared.weight' has dtype U8, it must be F32, BF16 or F16"},
        {{TEXT, "\"encoder.block.2.layer.0.SelfAttention.relative_attention_bias.weight\"",
                 "\"encoder.block.2.layer.0.SelfAttention.relative_bias.weight\""},
                -ENOENT,
                "the model has no tensor "
                "'encoder.block.2.layer.0.SelfAttention.relative_attention_bias.weight' in "
                "'text_encoder'"},
        {{VAE, "\"post_quant_conv.weight\":{\"dtype\":\"BF16\",\"shape\":[16,16,1,1,1]",
                 "\"post_quant_conv.weight\":{\"dtype\":\"BF16\",\"shape\":[16,16,1,1]"},
                -EBADMSG,
                "'" VAE
                "': tensor 'post_quant_conv.weight' is [16,16,1,1], the configuration wants "
                "[16,16,1,1,1]"},
};

static void refusals_name_tensor_found_and_wanted(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        Tiny t;
        Err err = {0};
        tiny_open(&t, &refused[i].edit);
        assert_int_equal(model_check(t.manifest, t.checkpoint, NULL, &err), refused[i].code);
        assert_string_equal(err_text(&err), refused[i].sentence);
        tiny_close(&t);
    }
}

static void the_embeddings_other_name(void **state) {
    Tiny t;
    Buf unexpected = {0};
    tiny_open(&t, &(TinyEdit){TEXT, "\"shared.weight\"", "\"encoder.embed_tokens.weight\""});
    assert_int_equal(model_check(t.manifest, t.checkpoint, &unexpected, NULL), 0);
    assert_int_equal(unexpected.size, 0);
    buf_done(&unexpected);
    tiny_close(&t);
}

/* A transformer of one layer less leaves that layer's 27 tensors over. */
static void unexpected_tensors_are_listed(void **state) {
    Tiny t;
    Buf unexpected = {0};
    tiny_open(&t, &(TinyEdit){"transformer/config.json", "\"num_layers\": 6", "\"num_layers\": 5"});
    assert_int_equal(model_check(t.manifest, t.checkpoint, &unexpected, NULL), 0);
    int n_lines = 0;
    for (const char *c = unexpected.data; *c; c++)
        n_lines += *c == '\n';
    assert_int_equal(n_lines, 27);
    assert_non_null(strstr(unexpected.data, "transformer: blocks.5.ffn.net.2.bias\n"));
    buf_done(&unexpected);
    tiny_close(&t);
}

static void nan_is_named(void **state) {
    Tiny t;
    Err err = {0};
    Model *m = NULL;
    tiny_open(&t, NULL);
    const ManifestTensor *tensor =
            manifest_find_tensor(t.manifest, "transformer", "blocks.2.attn2.to_k.weight");
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", t.dir, DIT);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)tensor->offset + 2 * 77, SEEK_SET), 0);
    assert_int_equal(fwrite((const uint8_t[]){0xc0, 0x7f}, 1, 2, f), 2);
    assert_int_equal(fclose(f), 0);
    tiny_reopen(&t);
    assert_int_equal(model_check(t.manifest, t.checkpoint, NULL, &err), -EDOM);
    assert_string_equal(err_text(&err),
            "'" DIT "': tensor 'blocks.2.attn2.to_k.weight' has 1 values that are NaN or "
            "infinite, all must be finite");
    err_clear(&err);

    /* Nobody has counted yet. */
    t.checkpoint = checkpoint_free(t.checkpoint);
    t.manifest = manifest_free(t.manifest);
    assert_int_equal(manifest_open(t.dir, &t.manifest, NULL), 0);
    assert_int_equal(checkpoint_open_files(t.manifest, &t.checkpoint, NULL), 0);
    assert_int_equal(model_new(t.checkpoint, &m, NULL), 0);
    assert_int_equal(model_find_nonfinite(m, &err), -EDOM);
    assert_string_equal(err_text(&err),
            "'" DIT "': tensor 'blocks.2.attn2.to_k.weight' has a NaN or an infinity at element "
            "77, all must be finite");
    model_free(m);
    tiny_close(&t);
}

/* What was dropped and loaded again gives the same views' shapes; what is loaded stays as it is. */
static void groups_come_and_go(void **state) {
    Tiny t;
    Model *m = NULL;
    Backend *b = NULL;
    Stream *s = NULL;
    tiny_open(&t, NULL);
    assert_int_equal(model_new(t.checkpoint, &m, NULL), 0);
    assert_int_equal(backend_open(&backend_cpu, &(BackendOptions){.n_threads = 1}, &b, NULL), 0);
    assert_int_equal(stream_new(b, 0, &s, NULL), 0);
    Weights *w = dit_weights(m->dit);
    assert_int_equal(weights_n_groups(w), 8);
    WeightGroup *g = weights_group_at(w, 3);
    assert_string_equal(weights_group_name(g), "blocks.2.");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weights_load_group(g, s, 0, NULL), 0);
        assert_int_equal(weights_load_group(g, s, 0, NULL), 0);
        weights_need(g, s);
        assert_int_equal(stream_finish(s, NULL), 0);
        weights_drop_group(g);
        weights_need(g, s);
        assert_int_equal(stream_finish(s, NULL), -ENODATA);
    }
    assert_int_equal(model_load(m, s, 0, NULL), 0);
    assert_int_equal(stream_finish(s, NULL), 0);
    model_free(m);
    stream_free(s);
    backend_free(b);
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(refusals_name_tensor_found_and_wanted),
            cmocka_unit_test(the_embeddings_other_name),
            cmocka_unit_test(unexpected_tensors_are_listed),
            cmocka_unit_test(nan_is_named),
            cmocka_unit_test(groups_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
