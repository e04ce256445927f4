#!/usr/bin/env python3
"""Seconds and memory of diffusers, stage by stage, in bf16 as people run it: a JSON object a line.

  diffusers-times.py MODEL [--clip WxHxFRAMES]... [--compile WxHxFRAMES] [--repeat N]

The transformer is timed with each of torch's attention engines, and for one clip compiled as well, over cuDNN's attention.
Inputs are random; every token has its timestep, as the official pipeline has it. "workspace_gib" is what a stage takes
beside its weights. The product of two square matrices is the card's own ceiling.
"""
import argparse
import contextlib
import json
import sys
import time

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import UMT5EncoderModel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu" # the latter to try this file
GIB = 2**30
torch.set_grad_enabled(False)


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def allocated(peak=False):
    if DEVICE != "cuda":
        return 0
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()


def measure(stage, work, repeat, **about):
    """The first call is told apart: it compiles, searches and allocates."""
    seconds, before = [], allocated()
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        for _ in range(repeat + 1):
            synchronize()
            start = time.perf_counter()
            work()
            synchronize()
            seconds.append(time.perf_counter() - start)
    except RuntimeError as e: # a missing engine is a line, not the end
        return print(json.dumps(dict(stage=stage, failed=str(e).splitlines()[0][:100], **about)), flush=True)
    hot = sorted(seconds[1:])
    line = dict(stage=stage, **about, median_s=round(hot[len(hot) // 2], 5), min_s=round(hot[0], 5), first_s=round(seconds[0], 3),
                workspace_gib=round((allocated(peak=True) - before) / GIB, 2))
    if "flop" in line:
        line["tflop_per_s"] = round(line.pop("flop") / line["median_s"] / 1e12, 3)
    print(json.dumps(line), flush=True)


def random(*shape):
    return torch.randn(*shape, dtype=torch.bfloat16, device=DEVICE)


def times(a):
    load = lambda cls, part: cls.from_pretrained(f"{a.model}/{part}", torch_dtype=torch.bfloat16).to(DEVICE)
    clips = {}
    for clip in a.clip:
        width, height, frames = map(int, clip.split("x"))
        clips[clip] = ((frames - 1) // 4 + 1, height // 16, width // 16)

    x, y = random(a.product, a.product), random(a.product, a.product)
    measure("product", lambda: x @ y, 10, flop=2 * a.product**3)
    del x, y

    encoder = load(UMT5EncoderModel, "text_encoder")
    ids = torch.randint(3, 1000, (1, 512), device=DEVICE)
    measure("t5", lambda: encoder(ids, torch.ones_like(ids)), a.repeat)
    del encoder

    vae = load(AutoencoderKLWan, "vae")
    for clip, shape in clips.items():
        z = random(1, vae.config.z_dim, *shape)
        measure("vae", lambda: vae.decode(z, return_dict=False), min(a.repeat, 2), clip=clip)
        del z
    del vae

    dit = load(WanTransformer3DModel, "transformer")
    context = random(1, 512, dit.config.text_dim)
    for clip, (t, h, w) in clips.items():
        inputs = dict(hidden_states=random(1, dit.config.in_channels, t, h, w), encoder_hidden_states=context, return_dict=False,
                      timestep=torch.full((1, t * h * w // 4), 700.0, device=DEVICE))
        for engine in ("flash", "cudnn"):
            with sdpa_kernel(getattr(SDPBackend, f"{engine}_attention".upper())):
                measure("dit", lambda: dit(**inputs), a.repeat, clip=clip, how=engine)
        if clip == a.compile:
            engine = sdpa_kernel(SDPBackend.CUDNN_ATTENTION) if DEVICE == "cuda" else contextlib.nullcontext()
            with engine:
                compiled = torch.compile(dit)
                measure("dit", lambda: compiled(**inputs), a.repeat, clip=clip, how="compiled")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clip", action="append")
    parser.add_argument("--compile")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--product", type=int, default=8192)
    a = parser.parse_args()
    a.clip = a.clip or ["1280x704x121", "832x480x81"]
    if a.compile and a.compile not in a.clip:
        sys.exit(f"--compile {a.compile}: not one of the clips {' '.join(a.clip)}")
    print(json.dumps(dict(stage="machine", torch=torch.__version__, device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu")),
          flush=True)
    times(a)
