#!/usr/bin/env python3
"""Turns a checkpoint in the Diffusers layout into one as the model's own repository has it.

  make_official.py DIFFUSERS_DIRECTORY OUTPUT_DIRECTORY

DiT: two shards with official names and their index, config.json. Text encoder and VAE: .pth files by torch.save(), the
VAE's with the attribute _metadata that a module's state dict has. Tokenizer in google/umt5-xxl. What the official files
do not tell, and the model constants of Wan2.2 do not fit, is copied beside them in the Diffusers form: statistics of the
latents, scheduler, defaults.

Needs torch and safetensors; the tests use what it made.
"""
import collections
import json
import pathlib
import re
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

RES = [(r"norm1\.gamma", "residual.0.gamma"), (r"conv1\.(weight|bias)", r"residual.2.\1"), (r"norm2\.gamma", "residual.3.gamma"),
       (r"conv2\.(weight|bias)", r"residual.6.\1"), (r"conv_shortcut\.(weight|bias)", r"shortcut.\1")]
DIT = [
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"^scale_shift_table$", "head.modulation"),
    (r"scale_shift_table$", "modulation"),
    (r"^proj_out", "head.head"),
    (r"attn1\.", "self_attn."),
    (r"attn2\.", "cross_attn."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.norm2\.", ".norm3."),
    (r"ffn\.net\.0\.proj", "ffn.0"),
    (r"ffn\.net\.2", "ffn.2"),
]
T5 = [
    (r"^shared\.", "token_embedding."),
    (r"^encoder\.final_layer_norm\.", "norm."),
    (r"^encoder\.block\.(\d+)\.layer\.0\.layer_norm\.", r"blocks.\1.norm1."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.layer_norm\.", r"blocks.\1.norm2."),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\.", r"blocks.\1.pos_embedding.embedding."),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.", r"blocks.\1.attn."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\.", r"blocks.\1.ffn.gate.0."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\.", r"blocks.\1.ffn.fc1."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.", r"blocks.\1.ffn.fc2."),
]


def vae_rules(n_res):
    """The resamplers count on behind the residual blocks."""
    rules = [
        (r"^quant_conv", "conv1"), (r"^post_quant_conv", "conv2"), (r"\.conv_in\.", ".conv1."), (r"\.norm_out\.", ".head.0."),
        (r"\.conv_out\.", ".head.2."), (r"mid_block\.attentions\.0", "middle.1"),
        (r"down_blocks\.(\d+)\.downsampler\.", rf"downsamples.\1.downsamples.{n_res}."),
        (r"up_blocks\.(\d+)\.upsampler\.", rf"upsamples.\1.upsamples.{n_res + 1}."),
    ]
    for block, official in [(r"mid_block\.resnets\.0\.", "middle.0."), (r"mid_block\.resnets\.1\.", "middle.2."),
                            (r"down_blocks\.(\d+)\.resnets\.(\d+)\.", r"downsamples.\1.downsamples.\2."),
                            (r"up_blocks\.(\d+)\.resnets\.(\d+)\.", r"upsamples.\1.upsamples.\2.")]:
        n_groups = block.count("(")
        rules += [(block + leaf, official + re.sub(r"\\1", rf"\\{n_groups + 1}", name)) for leaf, name in RES]
    return rules


def rename(name, rules):
    for pattern, to in rules:
        name = re.sub(pattern, to, name)
    return name


def load(directory):
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def renamed(tensors, rules):
    names = {name: rename(name, rules) for name in tensors}
    assert len(set(names.values())) == len(names)
    return collections.OrderedDict((names[name], t.contiguous()) for name, t in tensors.items())


def save_dit(source, out):
    config = json.loads((source / "transformer" / "config.json").read_text())
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    tensors = renamed(load(source / "transformer"), DIT)
    names, shards, index = sorted(tensors), [{}, {}], {}
    for i, name in enumerate(names):
        which = 2 * i // len(names)
        shards[which][name] = tensors[name]
        index[name] = f"diffusion_pytorch_model-0000{which + 1}-of-00002.safetensors"
    for which, shard in enumerate(shards):
        save_file(shard, out / f"diffusion_pytorch_model-0000{which + 1}-of-00002.safetensors", {"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    (out / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2) + "\n")
    (out / "config.json").write_text(json.dumps({
        "_class_name": "WanModel", "dim": dim, "eps": config["eps"], "ffn_dim": config["ffn_dim"], "freq_dim": config["freq_dim"],
        "in_dim": config["in_channels"], "model_type": "ti2v", "num_heads": config["num_attention_heads"],
        "num_layers": config["num_layers"], "out_dim": config["out_channels"], "text_len": 512}, indent=2) + "\n")


def main():
    source, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    save_dit(source, out)
    torch.save(dict(renamed(load(source / "text_encoder"), T5)), out / "models_t5_umt5-xxl-enc-bf16.pth")
    vae = json.loads((source / "vae" / "config.json").read_text())
    state = renamed(load(source / "vae"), vae_rules(vae["num_res_blocks"]))
    state._metadata = collections.OrderedDict([("", {"version": 1}), ("conv1", {"version": 1})])
    torch.save(state, out / "Wan2.2_VAE.pth")
    for path in ("vae/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        (out / path).parent.mkdir(exist_ok=True)
        shutil.copy(source / path, out / path)
    shutil.copytree(source / "tokenizer", out / "google" / "umt5-xxl", dirs_exist_ok=True)


main()
