#include "test.h"

#include "model/dims.h"
#include "tiny.h"

#include <errno.h>

static void the_tiny_model(void **state) {
    Tiny t;
    ModelDims d;
    tiny_open(&t, NULL);
    assert_int_equal(dims_read(t.checkpoint, &d, NULL), 0);
    assert_int_equal(d.t5.vocab, 1024);
    assert_int_equal(d.t5.inner, 64);
    assert_int_equal(d.dit.dim, 160);
    assert_int_equal(d.dit.modulation, 960);
    assert_int_equal(d.dit.head, 64);
    assert_int_equal(d.vae.stride_s, 16);
    assert_int_equal(d.vae.stride_t, 4);
    assert_int_equal(d.vae.decoder_base, 16);
    assert_int_equal(d.scheduler.kind, SAMPLER_UNIPC);
    assert_true(d.scheduler.shift == 3.0);
    tiny_close(&t);
}

/* One change in a file, and what the refusal must say: key, found and wanted. */
static const struct {
    TinyEdit edit;
    const char *sentence;
} refused[] = {
        {{"model_index.json", "\"expand_timesteps\": true", "\"expand_timesteps\": false"},
                "'model_index.json': 'expand_timesteps' is false, only true is supported"},
        {{"text_encoder/config.json", "gated-gelu", "relu"},
                "'text_encoder/config.json': 'feed_forward_proj' is \"relu\", only \"gated-gelu\" "
                "is supported"},
        {{"text_encoder/config.json", "\"umt5\"", "\"t5\""},
                "'text_encoder/config.json': 'model_type' is \"t5\", only \"umt5\" is supported"},
        {{"text_encoder/config.json", "\"num_layers\": 3", "\"num_layers\": 257"},
                "'text_encoder/config.json': 'num_layers' is 257, it must be from 1 to 256"},
        {{"text_encoder/config.json", "\"d_ff\": 128", "\"d_ff\": 128.5"},
                "'text_encoder/config.json': 'd_ff' is a number, it must be an integer"},
        {{"text_encoder/config.json", "\"relative_attention_num_buckets\": 32",
                 "\"relative_attention_num_buckets\": 30"},
                "'text_encoder/config.json': 'relative_attention_num_buckets' is 30 and "
                "'relative_attention_max_distance' is 128, wanted are a multiple of 4 and more "
                "than a quarter of it"},
        {{"text_encoder/config.json", "\"layer_norm_epsilon\": 1e-06", "\"layer_norm_epsilon\": 0"},
                "'text_encoder/config.json': 'layer_norm_epsilon' is 0, it must be between 0 and "
                "1"},
        {{"text_encoder/config.json", "\"d_model\": 64", "\"d_model\": 96"},
                "the transformer's 'text_dim' is 64, the text encoder's 'd_model' is 96"},
        {{"transformer/config.json", "rms_norm_across_heads", "rms_norm"},
                "'transformer/config.json': 'qk_norm' is \"rms_norm\", only "
                "\"rms_norm_across_heads\" is supported"},
        {{"transformer/config.json", "\"cross_attn_norm\": true", "\"cross_attn_norm\": false"},
                "'transformer/config.json': 'cross_attn_norm' is false, only true is supported"},
        {{"transformer/config.json", "\"image_dim\": null", "\"image_dim\": 1280"},
                "'transformer/config.json': 'image_dim' is 1280, only null is supported"},
        {{"transformer/config.json", "\"added_kv_proj_dim\": null", "\"added_kv_proj_dim\": 64"},
                "'transformer/config.json': 'added_kv_proj_dim' is 64, only null is supported"},
        {{"transformer/config.json", "    1,\n    2,\n    2\n", "2, 2, 2"},
                "'transformer/config.json': 'patch_size' is [2,2,2], only [1,p,p] with p from 1 to "
                "16 is supported"},
        {{"transformer/config.json", "    1,\n    2,\n    2\n", "1, 2, 4"},
                "'transformer/config.json': 'patch_size' is [1,2,4], only [1,p,p] with p from 1 to "
                "16 is supported"},
        {{"transformer/config.json", "\"attention_head_dim\": 32", "\"attention_head_dim\": 33"},
                "'transformer/config.json': 'attention_head_dim' is 33, it must be even"},
        {{"transformer/config.json", "\"ffn_dim\": 640,", ""},
                "'transformer/config.json': 'ffn_dim' is missing"},
        {{"transformer/config.json", "\"out_channels\": 16", "\"out_channels\": 8"},
                "'transformer/config.json': 'out_channels' is 8, it must be in_channels, 16"},
        {{"vae/config.json", "\"is_residual\": true", "\"is_residual\": false"},
                "'vae/config.json': 'is_residual' is false, only true is supported"},
        {{"vae/config.json", "\"attn_scales\": []", "\"attn_scales\": [1]"},
                "'vae/config.json': 'attn_scales' is [1], only [] is supported"},
        {{"vae/config.json", "\"scale_factor_spatial\": 16", "\"scale_factor_spatial\": 8"},
                "'vae/config.json': 'scale_factor_spatial' is 8, the levels give 16"},
        {{"vae/config.json", "\"z_dim\": 16", "\"z_dim\": 12"},
                "'vae/config.json': 'latents_mean' has 16 numbers, z_dim is 12"},
        {{"vae/config.json", "    0.4863,", "    0,"},
                "'vae/config.json': 'latents_std[0]' is not a number from 1e-06 to 1e6"},
        {{"vae/config.json", "\"in_channels\": 12", "\"in_channels\": 48"},
                "'vae/config.json': 'in_channels' is 48 and 'out_channels' is 12, a patch_size of "
                "2 gives 12"},
        {{"scheduler/scheduler_config.json", "UniPCMultistepScheduler", "DDIMScheduler"},
                "'scheduler/scheduler_config.json': '_class_name' is \"DDIMScheduler\", only "
                "UniPCMultistepScheduler or FlowMatchEulerDiscreteScheduler is supported"},
        {{"scheduler/scheduler_config.json", "flow_prediction", "epsilon"},
                "'scheduler/scheduler_config.json': 'prediction_type' is \"epsilon\", only "
                "\"flow_prediction\" is supported"},
        {{"scheduler/scheduler_config.json", "\"solver_order\": 2", "\"solver_order\": 3"},
                "'scheduler/scheduler_config.json': 'solver_order' is 3, only 2 is supported"},
        {{"scheduler/scheduler_config.json", "\"flow_shift\": 3.0", "\"flow_shift\": -1"},
                "'scheduler/scheduler_config.json': 'flow_shift' is -1, it must be from 0.01 to "
                "100"},
};

static void refusals_name_key_found_and_wanted(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        Tiny t;
        ModelDims d;
        Err err = {0};
        tiny_open(&t, &refused[i].edit);
        assert_int_equal(dims_read(t.checkpoint, &d, &err), -EINVAL);
        assert_string_equal(err_text(&err), refused[i].sentence);
        tiny_close(&t);
    }
}

/* The keys of Wan2.2-TI2V-5B's own files. */
static void the_large_model(void **state) {
    static const char t5[] = "{\"model_type\": \"umt5\", \"d_model\": 4096, \"d_ff\": 10240, "
                             "\"d_kv\": 64, \"num_heads\": 64, \"num_layers\": 24, "
                             "\"vocab_size\": 256384, \"feed_forward_proj\": \"gated-gelu\", "
                             "\"relative_attention_num_buckets\": 32, "
                             "\"relative_attention_max_distance\": 128, "
                             "\"layer_norm_epsilon\": 1e-06}";
    static const char dit[] =
            "{\"attention_head_dim\": 128, \"cross_attn_norm\": true, \"eps\": 1e-06, "
            "\"ffn_dim\": 14336, \"freq_dim\": 256, \"in_channels\": 48, \"out_channels\": 48, "
            "\"num_attention_heads\": 24, \"num_layers\": 30, \"patch_size\": [1, 2, 2], "
            "\"qk_norm\": \"rms_norm_across_heads\", \"rope_max_seq_len\": 1024, "
            "\"text_dim\": 4096, \"image_dim\": null, \"added_kv_proj_dim\": null}";
    T5Dims t;
    DitDims d;
    assert_int_equal(dims_parse_t5(t5, sizeof(t5) - 1, &t, NULL), 0);
    assert_int_equal(t.inner, 4096);
    assert_int_equal(dims_parse_dit(dit, sizeof(dit) - 1, &d, NULL), 0);
    assert_int_equal(d.dim, 3072);
    assert_int_equal(d.modulation, 18432);
    assert_int_equal(d.head, 192);
}

static void euler_has_its_own_key(void **state) {
    static const char text[] = "{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", "
                               "\"num_train_timesteps\": 1000, \"shift\": 5}";
    SchedulerConfig c;
    assert_int_equal(dims_parse_scheduler(text, sizeof(text) - 1, &c, NULL), 0);
    assert_int_equal(c.kind, SAMPLER_EULER);
    assert_true(c.shift == 5.0);
}

static void not_an_object(void **state) {
    DitDims d;
    Err err = {0};
    assert_int_equal(dims_parse_dit("[]", 2, &d, &err), -EINVAL);
    assert_string_equal(err_text(&err), "the file is not a JSON object");
    assert_int_equal(dims_parse_dit("{", 1, &d, NULL), -EINVAL);
    assert_int_equal(dims_parse_dit("", 0, &d, NULL), -EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_tiny_model),
            cmocka_unit_test(refusals_name_key_found_and_wanted),
            cmocka_unit_test(the_large_model),
            cmocka_unit_test(not_an_object),
            cmocka_unit_test(euler_has_its_own_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
