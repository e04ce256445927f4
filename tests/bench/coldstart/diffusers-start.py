#!/usr/bin/env python3
"""Seconds from process start to the end of a clip with diffusers, as people run it: everything on the card, in bf16.

  diffusers-start.py MODEL [--size WxH] [--frames N] [--steps N] [--guidance G] [--device D] [--began SECONDS]

--began is when the process was started, of CLOCK_MONOTONIC. The last byte is that of an MP4 where OpenCV can write one, else of raw
frames.
"""
import time

FIRST_LINE = time.monotonic()

import argparse
import json
import os
import tempfile

import sentencepiece
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import UMT5EncoderModel

torch.set_grad_enabled(False)
marks = {}


def mark(name):
    if a.device != "cpu":
        torch.cuda.synchronize()
    marks[name] = round(time.monotonic() - a.began, 3)


def write_clip(frames, fps=24):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "clip.mp4")
        try:
            import cv2
            out = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), fps, frames.shape[2:0:-1])
            for frame in frames.numpy():
                out.write(frame[:, :, ::-1].copy())
            out.release()
        except ImportError:
            frames.numpy().tofile(path)
        return os.path.getsize(path)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--size", default="832x480")
parser.add_argument("--frames", type=int, default=17)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--guidance", type=float, default=5)
parser.add_argument("--device", default="cuda")
parser.add_argument("--began", type=float, default=FIRST_LINE)
a = parser.parse_args()
mark("imported_s")
load = lambda cls, part: cls.from_pretrained(f"{a.model}/{part}", torch_dtype=torch.bfloat16).to(a.device)
encoder = load(UMT5EncoderModel, "text_encoder")
mark("text_encoder_s")
dit = load(WanTransformer3DModel, "transformer")
mark("transformer_s")
vae = load(AutoencoderKLWan, "vae")
mark("usable_s")
pieces = sentencepiece.SentencePieceProcessor(model_file=f"{a.model}/tokenizer/spiece.model")
width, height = map(int, a.size.split("x"))
stride, patch = vae.config.scale_factor_spatial, dit.config.patch_size[1]
shape = (1, vae.config.z_dim, (a.frames - 1) // vae.config.scale_factor_temporal + 1, height // stride, width // stride)
x = torch.randn(shape, device=a.device)
rows = []
for prompt in ("a red circle moving right on a black background", ""):
    ids = torch.tensor([pieces.encode(prompt) + [1]], device=a.device)
    rows.append(F.pad(encoder(ids, torch.ones_like(ids)).last_hidden_state, (0, 0, 0, 512 - ids.shape[1])))
sampler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
sampler.set_timesteps(a.steps, device=a.device)
for i, t in enumerate(sampler.timesteps):
    tokens = t.expand(1, shape[2] * (shape[3] // patch) * (shape[4] // patch)).float()
    v, u = (dit(hidden_states=x.bfloat16(), timestep=tokens, encoder_hidden_states=r, return_dict=False)[0].float() for r in rows)
    x = sampler.step(u + a.guidance * (v - u), t, x, return_dict=False)[0]
    if i == 0:
        mark("first_s")
statistic = lambda name: torch.tensor(getattr(vae.config, name), device=a.device).view(1, -1, 1, 1, 1)
x = vae.decode((x * statistic("latents_std") + statistic("latents_mean")).bfloat16(), return_dict=False)[0][0].float()
frames = ((x.permute(1, 2, 3, 0) / 2 + .5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
mark("frames_s")
n = write_clip(frames)
mark("last_s")
print(json.dumps(dict(marks, frames=len(frames), bytes=n)))
