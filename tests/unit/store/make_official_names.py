#!/usr/bin/env python3
"""Writes official-names.txt: every tensor of Wan2.2-TI2V-5B by its official and by its Diffusers name.

  make_official_names.py DIFFUSERS_SOURCE >official-names.txt

Transformer and VAE: names and shapes of the classes as diffusers makes them, held one to one against what diffusers' own
scripts/convert_wan_to_diffusers.py makes of the official names. Text encoder: transformers' class; the official names
are those of wan/modules/t5.py. Needs torch, diffusers, transformers.
"""
import pathlib
import re
import sys
import types

import torch
import diffusers
import transformers

SCRIPT = pathlib.Path(sys.argv[1]) / "scripts" / "convert_wan_to_diffusers.py"
R, N_LEVELS = {"encoder": 2, "decoder": 3}, 4


def dit():
    yield from (f"patch_embedding.{x}" for x in ("weight", "bias"))
    for stem in ("text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1", "head.head"):
        yield from (f"{stem}.{x}" for x in ("weight", "bias"))
    yield "head.modulation"
    for i in range(30):
        yield f"blocks.{i}.modulation"
        for a in ("self_attn", "cross_attn"):
            yield from (f"blocks.{i}.{a}.{m}.{x}" for m in "qkvo" for x in ("weight", "bias"))
            yield from (f"blocks.{i}.{a}.norm_{m}.weight" for m in "qk")
        for stem in ("norm3", "ffn.0", "ffn.2"):
            yield from (f"blocks.{i}.{stem}.{x}" for x in ("weight", "bias"))


def res(stem, shortcut):
    yield from (f"{stem}.residual.{i}.gamma" for i in (0, 3))
    yield from (f"{stem}.residual.{i}.{x}" for i in (2, 6) for x in ("weight", "bias"))
    if shortcut:
        yield from (f"{stem}.shortcut.{x}" for x in ("weight", "bias"))


def vae():
    both = ("weight", "bias")
    yield from (f"{stem}.{x}" for stem in ("conv1", "conv2") for x in both)
    for half, way, shortcuts, timed in (("encoder", "down", (1, 2), (1, 2)), ("decoder", "up", (2, 3), (0, 1))):
        yield from (f"{half}.{stem}.{x}" for stem in ("conv1", "head.2", "middle.1.to_qkv", "middle.1.proj") for x in both)
        yield from (f"{half}.head.0.gamma", f"{half}.middle.1.norm.gamma")
        for i in (0, 2):
            yield from res(f"{half}.middle.{i}", False)
        for level in range(N_LEVELS):
            stem = f"{half}.{way}samples.{level}.{way}samples"
            for r in range(R[half]):
                yield from res(f"{stem}.{r}", r == 0 and level in shortcuts)
            if level < N_LEVELS - 1:
                yield from (f"{stem}.{R[half]}.resample.1.{x}" for x in both)
            if level in timed:
                yield from (f"{stem}.{R[half]}.time_conv.{x}" for x in both)


def t5():
    """Pairs: diffusers has no conversion, transformers' own repository has the weights."""
    yield "token_embedding.weight", "shared.weight"
    yield "norm.weight", "encoder.final_layer_norm.weight"
    for i in range(24):
        layer = f"encoder.block.{i}.layer"
        yield f"blocks.{i}.norm1.weight", f"{layer}.0.layer_norm.weight"
        yield f"blocks.{i}.norm2.weight", f"{layer}.1.layer_norm.weight"
        for m in "qkvo":
            yield f"blocks.{i}.attn.{m}.weight", f"{layer}.0.SelfAttention.{m}.weight"
        yield f"blocks.{i}.pos_embedding.embedding.weight", f"{layer}.0.SelfAttention.relative_attention_bias.weight"
        for a, b in (("gate.0", "wi_0"), ("fc1", "wi_1"), ("fc2", "wo")):
            yield f"blocks.{i}.ffn.{a}.weight", f"{layer}.1.DenseReluDense.{b}.weight"


def converted(names, function, environment):
    """What a function of the script makes of a state dict with these names: which name became which."""
    result = {}

    class Model:
        def load_state_dict(self, state, **_):
            result.update({old: new for new, old in state.items()})

        def to(self, *_):
            return self

    class Factory:
        def __new__(cls, **_):
            return Model()

        from_config = staticmethod(lambda *_, **__: Model())

    class Nothing:
        __enter__ = __exit__ = lambda *_: None

    environment |= {"snapshot_download": lambda *_, **__: ".", "hf_hub_download": lambda *_, **__: "", "init_empty_weights": Nothing,
                    "load_sharded_safetensors": lambda *_: {n: n for n in names}, "WanTransformer3DModel": Factory,
                    "AutoencoderKLWan": Factory, "torch": types.SimpleNamespace(load=lambda *_, **__: {n: n for n in names})}
    function()
    return result


def main():
    source = re.sub(r"^(import|from) (?!argparse|pathlib|typing)[^\n(]*(\([^)]*\))?", "", SCRIPT.read_text(), flags=re.M)
    source = source.replace("torch.float32", "0").replace("torch.float16", "0").replace("torch.bfloat16", "0")
    environment = {"__name__": "convert"}
    exec(source, environment)
    with torch.device("meta"):
        transformer = diffusers.WanTransformer3DModel(
            num_attention_heads=24, attention_head_dim=128, in_channels=48, out_channels=48, ffn_dim=14336, num_layers=30)
        config = {k: v for k, v in environment["vae22_diffusers_config"].items() if k != "clip_output"} # no class has it
        vae_model = diffusers.AutoencoderKLWan(**config)
        text = transformers.UMT5EncoderModel(transformers.UMT5Config(
            vocab_size=256384, d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu"))
    pairs = {
        "transformer": (converted(list(dit()), lambda: environment["convert_transformer"]("Wan2.2-TI2V-5B"), environment), transformer),
        "text_encoder": (dict(t5()), text),
        "vae": (converted(list(vae()), environment["convert_vae_22"], environment), vae_model),
    }
    print(f"# Made by make_official_names.py with diffusers {diffusers.__version__}, its conversion script at commit 58eb52c0, "
          f"transformers {transformers.__version__}:\n# part, official name, name in the Diffusers layout, extents.")
    for part, (names, model) in pairs.items():
        shapes = {n: list(t.shape) for n, t in model.state_dict().items()}
        shapes.pop("encoder.embed_tokens.weight", None)
        assert sorted(names.values()) == sorted(shapes), set(names.values()) ^ set(shapes)
        for official, name in names.items():
            print(part, official, name, ",".join(map(str, shapes[name])))


main()
