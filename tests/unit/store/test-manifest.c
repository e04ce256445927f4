#include "test.h"

#include "model.h"
#include "store/checkpoint.h"
#include "store/manifest-format.h"
#include "store/manifest.h"
#include "store/order.h"

#include <errno.h>

static void scanning_finds_everything(void **state) {
    Model model;
    model_make_whole(&model, 700);
    Manifest *m;
    Err err = {0};
    if (manifest_scan(model.dir, SEGMENT_PAGE, &m, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(manifest_n_files(m), 3);
    assert_int_equal(manifest_n_tensors(m), 19);
    assert_int_equal(manifest_n_smalls(m), 6);
    assert_false(manifest_has_digests(m));
    assert_string_equal(manifest_root(m), model.dir);
    const ManifestTensor *t = manifest_find_tensor(m, "transformer", "blocks.10.b");
    assert_non_null(t);
    assert_int_equal(t->dim[0], 700);
    assert_int_equal(t->dtype, DTYPE_BF16);
    assert_null(manifest_find_tensor(m, "vae", "blocks.10.b"));
    manifest_free(m);
    model_done(&model);
}

static void names_have_an_order(void **state) {
    static const struct {
        const char *part, *name;
    } ascending[] = {
            {"text_encoder", "shared.weight"},
            {"text_encoder", "encoder.block.0.layer.0.layer_norm.weight"},
            {"text_encoder", "encoder.block.2.layer.0.layer_norm.weight"},
            {"text_encoder", "encoder.block.10.layer.0.layer_norm.weight"},
            {"text_encoder", "encoder.final_layer_norm.weight"},
            {"transformer", "condition_embedder.time_proj.weight"},
            {"transformer", "blocks.0.ffn.net.2.weight"},
            {"transformer", "blocks.29.attn1.to_q.weight"},
            {"transformer", "blocks.99999999999.x"},
            {"transformer", "proj_out.weight"},
            {"vae", "post_quant_conv.weight"},
            {"vae", "decoder.mid_block.resnets.0.conv1.weight"},
            {"vae", "decoder.up_blocks.0.resnets.0.conv1.weight"},
            {"vae", "decoder.up_blocks.3.resnets.0.conv1.weight"},
            {"vae", "decoder.norm_out.gamma"},
            {"vae", "encoder.conv_in.weight"},
            {"vae", "encoder.down_blocks.3.resnets.0.conv1.weight"},
            {"vae", "quant_conv.weight"},
            {"other", "blocks.0"},
    };
    for (size_t i = 1; i < sizeof(ascending) / sizeof(ascending[0]); i++)
        assert_true(order_of(ascending[i - 1].part, ascending[i - 1].name) <
                    order_of(ascending[i].part, ascending[i].name));
}

/* The earliest tensor of a chunk; UINT32_MAX when there is none. */
static uint32_t order_of_chunk(const Manifest *m, const ManifestChunk *c) {
    uint32_t order = UINT32_MAX;
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        if (t->file == c->file && t->offset < c->offset + c->bytes &&
                t->offset + t->bytes > c->offset) {
            uint32_t o = order_of(t->part, t->name);
            order = o < order ? o : order;
        }
    }
    return order;
}

static void chunks_cover_files_in_order_of_use(void **state) {
    Model model;
    model_make_whole(&model, 700); /* blocks of 2.8 MB: cuts fall inside and between them */
    static const uint64_t sizes[] = {SEGMENT_PAGE, 2 * SEGMENT_PAGE, 5 * SEGMENT_PAGE, 0};
    for (size_t k = 0; k < 4; k++) {
        Manifest *m;
        assert_int_equal(manifest_scan(model.dir, sizes[k], &m, NULL), 0);
        uint64_t bytes = 0;
        for (size_t i = 0; i < manifest_n_chunks(m); i++) {
            const ManifestChunk *c = manifest_chunk(m, i);
            bytes += c->bytes;
            assert_true(
                    i == 0 || order_of_chunk(m, manifest_chunk(m, i - 1)) <= order_of_chunk(m, c));
            uint64_t at = manifest_chunk_segment_offset(m, i);
            assert_int_equal(manifest_chunk_at(m, at), i);
            assert_int_equal(manifest_chunk_at(m, at + c->bytes - 1), i);
        }
        assert_int_equal(bytes, manifest_weight_bytes(m));
        manifest_free(m);
    }
    Err err = {0};
    Manifest *m;
    assert_int_equal(manifest_scan(model.dir, SEGMENT_PAGE + 4096, &m, &err), -EINVAL);
    assert_int_equal(manifest_scan(model.dir, (uint64_t)2 << 30, &m, NULL), -EINVAL);
    model_done(&model);
}

static void files_are_mapped(void **state) {
    Model model;
    model_make_whole(&model, 10);
    Manifest *m;
    Checkpoint *c;
    Err err = {0};
    assert_int_equal(manifest_open(model.dir, &m, NULL), 0);
    if (checkpoint_open_files(m, &c, &err) < 0)
        fail_msg("%s", err_text(&err));
    View v;
    assert_int_equal(checkpoint_find(c, "vae", "quant_conv.weight", &v, NULL), 0);
    assert_int_equal(view_count(v), 1024);
    assert_int_equal(checkpoint_wait(c, v, 0, NULL), 0);
    assert_int_equal(checkpoint_find(c, "vae", "none", &v, &err), -ENOENT);
    assert_string_equal(err_text(&err), "the model has no tensor 'none' in 'vae'");
    const char *data;
    size_t n;
    assert_int_equal(checkpoint_file(c, "tokenizer/spiece.model", &data, &n, NULL), 0);
    assert_int_equal(n, 10);
    assert_memory_equal(data, "not \xff text", n);
    checkpoint_free(c);

    model_text(&model, "vae/diffusion_pytorch_model.safetensors", "short");
    err_clear(&err);
    assert_int_equal(checkpoint_open_files(m, &c, &err), -ESTALE);
    manifest_free(m);
    model_done(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(scanning_finds_everything),
            cmocka_unit_test(names_have_an_order),
            cmocka_unit_test(chunks_cover_files_in_order_of_use),
            cmocka_unit_test(files_are_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
