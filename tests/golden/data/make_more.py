"""Makes the reference tensors that make_golden.py does not: odd sizes, few steps, long and foreign prompts, and a
model of other dimensions with random weights. Run with diffusers 0.39.0, transformers 4.57.6, torch 2.4.1, all in f32
on a CPU.

  make_more.py MODEL_DIR OUTPUT_DIR    cases on the tiny model
  make_more.py --other OUTPUT_DIR MODEL_DIR
                                       OUTPUT_DIR/model with the tiny model's small files, and its layers.safetensors

torch 2.4.1 is older than diffusers wants: custom_op, flex_attention and enable_gqa are stood in for; none of them
takes part in the computation."""
import os
import pathlib
import shutil
import sys
import types

import torch


def plain_op(*given, **_):
    return given[0] if given and callable(given[0]) else lambda f: f


def attention(*given, enable_gqa=False, plain=torch.nn.functional.scaled_dot_product_attention, **named):
    return plain(*given, **named)


torch.library.custom_op = torch.library.register_fake = plain_op
torch.nn.functional.scaled_dot_product_attention = attention
flex = types.ModuleType("torch.nn.attention.flex_attention")
flex.BlockMask, flex.create_block_mask, flex.flex_attention, flex._mask_mod_signature = type("BlockMask", (), {}), None, None, None
sys.modules[flex.__name__] = flex

HERE = pathlib.Path(__file__).parent
FUNCTIONS = (HERE / "make_golden.py").read_text().split("first_frame = render(")[0]
FUNCTIONS = FUNCTIONS.replace('"cuda", 512', '"cpu", 512').replace("v.contiguous().cpu() for", "v.contiguous().cpu().clone() for")
LONG = " ".join(["a large red circle moving right on a gray background and a small blue square growing on a white background"] * 6)


def picture(height, width):
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(99)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(height, width), mode="bilinear")


CASES = {
    "foreign_prompt": dict(prompt="Zebra, quilt! 7 é 猫", negative="Blurry, low quality — ﬁ", steps=3, guidance=7.5,
                           height=64, width=64, frames=5, seed=11),
    "one_step": dict(prompt="a", steps=1, guidance=1.5, height=32, width=96, frames=9, seed=12),
    "two_steps": dict(prompt="a cyan cross shrinking on a white background", steps=2, guidance=5.0, shift=5.0, height=96,
                      width=64, frames=13, seed=13),
    "long_prompt": dict(prompt=LONG, steps=5, guidance=2.0, height=64, width=96, frames=9, seed=14),
    "image_euler": dict(prompt="a red square moving down", scheduler="euler", steps=4, guidance=3.3, shift=8.0,
                        image=picture(160, 96), height=160, width=96, frames=9, seed=15),
    "image_one_frame": dict(prompt="a red square", steps=4, guidance=3.0, image=picture(64, 64), height=64, width=64,
                            frames=1, seed=16),
}


def make_other(output, tiny):
    """Random weights in bf16: head size 50, patches and levels unlike those of any published model."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(7)
    dit = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=3, attention_head_dim=50, in_channels=8,
                                out_channels=8, text_dim=48, freq_dim=64, ffn_dim=100, num_layers=2, rope_max_seq_len=64)
    for p in dit.parameters():
        p.data.copy_(torch.randn_like(p) * 0.15 if p.ndim > 1 else torch.randn_like(p) * 0.3 + 0.5)
    vae = AutoencoderKLWan(base_dim=8, decoder_base_dim=12, z_dim=8, dim_mult=[1, 2, 2], num_res_blocks=1, attn_scales=[],
                           temperal_downsample=[True, False], latents_mean=[0.1 * i for i in range(8)],
                           latents_std=[1 + 0.1 * i for i in range(8)], is_residual=True, in_channels=12, out_channels=12,
                           patch_size=2, scale_factor_temporal=2, scale_factor_spatial=8)
    text = UMT5EncoderModel(UMT5Config(vocab_size=1100, d_model=48, d_kv=8, d_ff=80, num_layers=2, num_heads=3))
    for p in text.parameters():
        p.data.copy_(torch.randn_like(p) * 0.4)
    for part, name in ((dit, "transformer"), (vae, "vae"), (text, "text_encoder")):
        part.to(torch.bfloat16).save_pretrained(f"{output}/{name}")
    for name in ("model_index.json", "scheduler/scheduler_config.json", "tokenizer/spiece.model"):
        os.makedirs(os.path.dirname(f"{output}/{name}"), exist_ok=True)
        shutil.copyfile(f"{tiny}/{name}", f"{output}/{name}")


if sys.argv[1] == "--other":
    output, tiny = sys.argv[2:4]
    make_other(f"{output}/model", tiny)
    FUNCTIONS = FUNCTIONS.replace("torch.randn(1, 16, 3, 6, 10", "torch.randn(1, 8, 4, 4, 6").replace(
        "(1, 45), 700.", "(1, 24), 333.5").replace("timestep[:, :15] = 0", "timestep[:, :6] = 0; timestep[:, 9:11] = 12.25")
    FUNCTIONS = FUNCTIONS.replace("torch.rand(1, 3, 9, 64, 96", "torch.rand(1, 3, 5, 24, 16").replace(
        "torch.randn(1, 16, 3, 4, 6", "torch.randn(1, 8, 3, 3, 2")
    FUNCTIONS = FUNCTIONS.replace("from clips import render\n", "")
    sys.argv = ["", f"{output}/model", output]
    exec(FUNCTIONS)
    save_file(layers(LONG[:150], seed=5), f"{output}/layers.safetensors")
else:
    exec(FUNCTIONS)
    for name, request in CASES.items():
        tensors, metadata = case(**request)
        save_file(tensors, f"{sys.argv[2]}/{name}.safetensors", metadata=metadata)
