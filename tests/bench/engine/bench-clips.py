#!/usr/bin/env python3
"""Whole clips through preheatd, MP4 included, under limits on device memory.

  bench-clips.py --build DIR --model DIR [--module SO] [--vram-limit SIZE] [--image PNG] [--output FILE.mp4] CLIP...

CLIP is WxHxFRAMESxSTEPS, guided. One line of JSON a clip: seconds of each stage, of a step, and the device memory used.
"""
import argparse
import base64
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from standin import Client, Service


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--module")
    parser.add_argument("--segment")
    parser.add_argument("--vram-limit")
    parser.add_argument("--image")
    parser.add_argument("--output")
    parser.add_argument("clips", nargs="+")
    a = parser.parse_args()
    with Service(a.build, a.model, a.module, a.segment, a.vram_limit) as service:
        for i, clip in enumerate(a.clips):
            width, height, frames, steps = map(int, clip.split("x"))
            body = dict(prompt="a red circle moving right on a black background", seed=7, size=f"{width}x{height}", num_frames=frames,
                        num_inference_steps=steps, guidance_scale=5)
            if a.image:
                with open(a.image, "rb") as f:
                    body["input_reference"] = dict(image_url="data:image/png;base64," + base64.b64encode(f.read()).decode())
            client = Client(service)
            job, data, first, total = client.make(body, None if i else service.start)
            detail = json.loads(client.ask("GET", "/healthz"))["detail"]
            stages = job["stage_seconds"]
            print(json.dumps(dict(clip=clip, vram_limit=a.vram_limit, residency=detail.get("residency"), total_s=round(total, 3),
                                  step_s=round(stages["denoising"] / steps, 4), peak_device_mb=job["peak_device_memory_mb"], start=job["start"],
                                  stages={k: round(v, 3) for k, v in stages.items()}, mp4_bytes=len(data))), flush=True)
            if a.output:
                with open(a.output, "wb") as f:
                    f.write(data)


main()
