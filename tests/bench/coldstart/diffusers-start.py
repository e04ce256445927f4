#!/usr/bin/env python3
"""Seconds from process start to the first denoising step with diffusers, as people run it: everything on the card, in bf16.

  diffusers-start.py MODEL [--size WxH] [--frames N]
"""
import time

BEGAN = time.time()

import argparse
import json

import psutil
import sentencepiece
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5EncoderModel

torch.set_grad_enabled(False)
marks = {}


def mark(name):
    torch.cuda.synchronize()
    marks[name] = round(time.time() - psutil.Process().create_time(), 3)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--size", default="832x480")
parser.add_argument("--frames", type=int, default=17)
a = parser.parse_args()
marks["imported"] = round(time.time() - psutil.Process().create_time(), 3)
load = lambda cls, part: cls.from_pretrained(f"{a.model}/{part}", torch_dtype=torch.bfloat16).cuda()
encoder = load(UMT5EncoderModel, "text_encoder")
mark("text_encoder")
dit = load(WanTransformer3DModel, "transformer")
mark("transformer")
vae = load(AutoencoderKLWan, "vae")
mark("all weights usable")
pieces = sentencepiece.SentencePieceProcessor(model_file=f"{a.model}/tokenizer/spiece.model")
width, height = map(int, a.size.split("x"))
shape = (1, 48, (a.frames - 1) // 4 + 1, height // 16, width // 16)
x = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
for prompt in ("a red circle moving right on a black background", ""):
    ids = torch.tensor([pieces.encode(prompt) + [1]], device="cuda")
    rows = F.pad(encoder(ids, torch.ones_like(ids)).last_hidden_state, (0, 0, 0, 512 - ids.shape[1]))
    t = torch.full((1, shape[2] * shape[3] * shape[4] // 4), 999., device="cuda")
    dit(hidden_states=x, timestep=t, encoder_hidden_states=rows, return_dict=False)
mark("first denoising step")
print(json.dumps(marks))
