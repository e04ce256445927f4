#!/usr/bin/env python3
"""Runs diffusers on a checkpoint and keeps what it computed, so that preheat is held against numbers it did not make.

  reference.py MODEL OUTPUT.safetensors --size WxH --frames N --steps N [--dtype f32|bf16] [--guidance G] [--image] [--against F32.safetensors]

OUTPUT has the layout of tests/golden/data. With --against, prints how far this run (bf16, say) is from that one, quantity
by quantity: relative L2, cosine, and PSNR of frames. Seconds of each stage are printed as one JSON line at the end.
"""
import argparse
import json
import time

import sentencepiece
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import UMT5EncoderModel

TEXT_ROWS = 512
PROMPT = "a red circle moving right on a black background"
torch.set_grad_enabled(False)
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


class Clock:
    def __init__(self):
        self.seconds, self.peak = {}, {}

    def __call__(self, name, work, repeat=1):
        torch.cuda.reset_peak_memory_stats()
        for i in range(repeat):
            torch.cuda.synchronize()
            start = time.perf_counter()
            result = work()
            torch.cuda.synchronize()
            self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        self.peak[name] = torch.cuda.max_memory_allocated() / 2**30
        return result

    def summary(self):
        median = lambda v: sorted(v)[len(v) // 2]
        return {name: dict(median_s=round(median(v), 4), first_s=round(v[0], 4), n=len(v), peak_gib=round(self.peak[name], 2))
                for name, v in self.seconds.items()}


def run(a, clock):
    dtype = dict(f32=torch.float32, bf16=torch.bfloat16)[a.dtype]
    width, height = map(int, a.size.split("x"))
    load = lambda cls, part: cls.from_pretrained(f"{a.model}/{part}", torch_dtype=dtype).cuda()
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{a.model}/tokenizer/spiece.model")
    shape = ((a.frames - 1) // 4 + 1, height // 16, width // 16)
    generator = torch.Generator().manual_seed(a.seed)
    r = {}

    encoder = load(UMT5EncoderModel, "text_encoder")
    contexts = {}
    for name, prompt in (("", PROMPT), ("negative_", "")):
        ids = torch.tensor([pieces.encode(prompt) + [1]], device="cuda")
        rows = clock("umt5", lambda: encoder(ids, torch.ones_like(ids)).last_hidden_state, a.repeat)
        r[f"{name}input_ids"], r[f"{name}prompt_embeds"] = ids[0].int(), rows[0].float()
        contexts[name] = F.pad(rows, (0, 0, 0, TEXT_ROWS - ids.shape[1]))
    full = torch.randint(3, 1000, (1, TEXT_ROWS), device="cuda")
    clock("umt5_512", lambda: encoder(full, torch.ones_like(full)).last_hidden_state, a.repeat)
    del encoder

    vae = load(AutoencoderKLWan, "vae")
    channels = vae.config.z_dim
    statistic = lambda name: torch.tensor(getattr(vae.config, name), device="cuda").view(1, -1, 1, 1, 1)
    mean, std = statistic("latents_mean"), statistic("latents_std")
    noise = torch.randn(1, channels, *shape, generator=generator).cuda()
    mask, given = torch.ones(1, 1, *shape, device="cuda"), torch.zeros_like(noise)
    if a.image:
        image = torch.rand(1, 3, height, width, generator=generator).cuda() * 2 - 1
        mask[:, :, 0] = 0
        encoded = clock("vae_encode_image", lambda: vae.encode(image[:, :, None].to(dtype)).latent_dist.mode())
        given[:, :, :1] = (encoded.float() - mean) / std
        r["image"], r["image_latents"] = image[0], given[0, :, 0]

    dit = load(WanTransformer3DModel, "transformer")
    sampler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=a.shift)
    sampler.set_timesteps(a.steps, device="cuda")
    r |= {"initial_noise": noise[0], "timesteps": sampler.timesteps.float(), "sigmas": sampler.sigmas.float()}
    z, latents, velocities = noise.clone(), [], []
    for t in sampler.timesteps:
        inputs = dict(hidden_states=(mask * z + (1 - mask) * given).to(dtype), return_dict=False,
                      timestep=(mask[0, 0][:, ::2, ::2] * t).flatten()[None])
        v = clock("dit_forward", lambda: dit(encoder_hidden_states=contexts[""], **inputs)[0], a.repeat).float()
        if a.guidance > 1:
            u = dit(encoder_hidden_states=contexts["negative_"], **inputs)[0].float()
            v = u + a.guidance * (v - u)
        z = sampler.step(v, t, z, return_dict=False)[0]
        latents.append(z[0].clone())
        velocities.append(v[0].clone())
    del dit
    z = mask * z + (1 - mask) * given
    r |= {"velocity": torch.stack(velocities), "latents": torch.stack(latents), "final_latents": z[0]}
    x = clock("vae_decode", lambda: vae.decode((z * std + mean).to(dtype), return_dict=False)[0], a.repeat)[0].float()
    r |= {"frames_float_first_last": x[:, [0, -1]], "frames": ((x.permute(1, 2, 3, 0) / 2 + .5).clamp(0, 1) * 255).round().to(torch.uint8)}
    metadata = dict(prompt=PROMPT, negative_prompt="", steps=a.steps, guidance_scale=a.guidance, scheduler="unipc", seed=a.seed,
                    height=height, width=width, num_frames=a.frames, flow_shift=a.shift)
    return {k: v.contiguous().cpu() for k, v in r.items()}, {k: str(v) for k, v in metadata.items()}


def compare(ours, theirs):
    for name in sorted(set(ours) & set(theirs)):
        x, y = ours[name].double().flatten(), theirs[name].double().flatten()
        if x.shape != y.shape:
            continue
        line = dict(relative_l2=float((x - y).norm() / y.norm()), cosine=float(F.cosine_similarity(x, y, dim=0)))
        if name == "frames":
            line["psnr_db"] = float(10 * torch.log10(255**2 / ((x - y)**2).mean()))
        print(name, json.dumps({k: float(f"{v:.6g}") for k, v in line.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--size", default="1280x704")
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--shift", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--image", action="store_true")
    parser.add_argument("--against")
    a = parser.parse_args()
    clock = Clock()
    tensors, metadata = run(a, clock)
    save_file(tensors, a.output, metadata=metadata)
    if a.against:
        compare(tensors, load_file(a.against))
    print(json.dumps(dict(dtype=a.dtype, size=a.size, frames=a.frames, torch=torch.__version__, **clock.summary())))
