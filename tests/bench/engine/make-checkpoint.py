#!/usr/bin/env python3
"""Makes a checkpoint of Wan2.2-TI2V-5B's full size with random weights, in the Diffusers layout.

  make-checkpoint.py DIRECTORY SPIECE_MODEL [--dtype bf16|f32] [--scale 1.0]

Nothing is zero and nothing is one: zeros hide unwritten outputs and run faster than real data. Weights are drawn so
that activations keep about unit size through the depth. --scale below 1 shrinks layer counts, for a quick try.
"""
import argparse
import json
import os
import shutil

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

TRANSFORMER = dict(attention_head_dim=128, cross_attn_norm=True, eps=1e-6, ffn_dim=14336, freq_dim=256, in_channels=48,
                   out_channels=48, num_attention_heads=24, num_layers=30, patch_size=(1, 2, 2), qk_norm="rms_norm_across_heads",
                   rope_max_seq_len=1024, text_dim=4096)
TEXT_ENCODER = dict(vocab_size=256384, d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, num_decoder_layers=24,
                    feed_forward_proj="gated-gelu", relative_attention_num_buckets=32, relative_attention_max_distance=128,
                    layer_norm_epsilon=1e-6, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1)
MEAN = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375,
    -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899,
    -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573,
    -0.0548, -0.1681, -0.0667]
STD = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744]
VAE = dict(base_dim=160, decoder_base_dim=256, z_dim=48, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
           temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
           scale_factor_temporal=4, scale_factor_spatial=16, latents_mean=MEAN, latents_std=STD)
SCHEDULER = dict(_class_name="UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0,
                 num_train_timesteps=1000, solver_order=2, solver_type="bh2", predict_x0=True, final_sigmas_type="zero",
                 lower_order_final=True)


@torch.no_grad()
def randomize(module, generator):
    """Gains near one, biases and tables small, matrices with 1 / sqrt(fan in)."""
    for name, p in module.named_parameters():
        if p.ndim >= 2 and "scale_shift_table" in name:
            p.normal_(0, 0.2, generator=generator)
        elif name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            p.normal_(1, 0.1, generator=generator)
        elif p.ndim < 2:
            p.normal_(0, 0.05, generator=generator)
        elif name.endswith("SelfAttention.q.weight"): # umT5 does not scale its scores: its weights do
            p.normal_(0, (p[0].numel() * 64) ** -0.5, generator=generator)
        elif "shared" in name or "relative_attention_bias" in name:
            p.normal_(0, 1, generator=generator)
        else:
            p.normal_(0, (p[0].numel()) ** -0.5, generator=generator)


def make(directory, spiece, dtype, scale, device):
    generator = torch.Generator(device).manual_seed(1)
    layers = lambda n: max(1, round(n * scale))
    text = UMT5Config(**TEXT_ENCODER | dict(num_layers=layers(24)))
    parts = {
        "text_encoder": lambda: UMT5EncoderModel(text),
        "transformer": lambda: WanTransformer3DModel(**TRANSFORMER | dict(num_layers=layers(30))),
        "vae": lambda: AutoencoderKLWan(**VAE),
    }
    for part, build in parts.items():
        torch.set_default_dtype(dtype)
        with torch.device(device):
            module = build()
        torch.set_default_dtype(torch.float32)
        randomize(module.to(dtype), generator)
        module.save_pretrained(os.path.join(directory, part), max_shard_size="5GB")
        del module
    for part in ("scheduler", "tokenizer"):
        os.makedirs(os.path.join(directory, part), exist_ok=True)
    shutil.copy(spiece, os.path.join(directory, "tokenizer", "spiece.model"))
    with open(os.path.join(directory, "scheduler", "scheduler_config.json"), "w") as f:
        json.dump(SCHEDULER, f, indent=2)
    index = dict(_class_name="WanPipeline", expand_timesteps=True, boundary_ratio=None, scheduler=["diffusers", "UniPCMultistepScheduler"],
                 text_encoder=["transformers", "UMT5EncoderModel"], tokenizer=["transformers", "T5TokenizerFast"],
                 transformer=["diffusers", "WanTransformer3DModel"], transformer_2=[None, None], vae=["diffusers", "AutoencoderKLWan"])
    with open(os.path.join(directory, "model_index.json"), "w") as f:
        json.dump(index, f, indent=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("spiece_model")
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--device", default="cuda")
    a = parser.parse_args()
    make(a.directory, a.spiece_model, dict(bf16=torch.bfloat16, f32=torch.float32)[a.dtype], a.scale, a.device)
