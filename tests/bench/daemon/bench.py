#!/usr/bin/env python3
"""bench.py BUILDDIR [JOBS] - the tiny model's text-to-video through the real daemon: seconds of each stage, the most
memory that preheatd held, and how near the stages come to the rate of one large product on the same engine.

The first job begins when the socket is first connected to, hence contains the start. Exits 1 when a job took more than
5 s or preheatd more than 200 MB."""
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests/daemon"))
from daemon import Daemon, Place  # noqa: E402

BUILD, JOBS = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
MODEL = TOP / "packaging/models/tiny-wan"
MOST_SECONDS, MOST_MB = 5, 200


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def engine():
    subprocess.run(["ninja", "-C", BUILD, "tests/bench/bench-engine"], check=True, stdout=subprocess.DEVNULL)
    out = subprocess.run([BUILD / "tests/bench/bench-engine", "--model", MODEL, "--size", "128x128", "--frames", "17",
                          "--stages", "product,t5,dit,vae"], check=True, capture_output=True, text=True).stdout
    stages = {s["stage"]: s for s in map(json.loads, out.splitlines())}
    peak = stages["product"]["tflop"] / stages["product"]["min_s"]
    print(f"engine, one call each; the product of two 2048x2048 matrices reaches {peak * 1000:.0f} GFLOP/s")
    for name in ("t5", "dit", "vae"):
        s = stages[name]
        rate = s["tflop"] / s["min_s"]
        print(f"  {name:12} {s['min_s'] * 1000:8.2f} ms {rate * 1000:7.0f} GFLOP/s {100 * rate / peak:5.0f} % of that")


def main():
    print(f"{len(os.sched_getaffinity(0))} x {processor()}, {platform.system()} {platform.release()}, "
          f"load {os.getloadavg()[0]:.1f}")
    with Place(MODEL, BUILD / "daemon/preheat-media") as place, Daemon(BUILD / "daemon/preheatd", place) as d:
        seconds, videos = [], []
        for i in range(JOBS):
            began = time.monotonic()
            video = d.wait(d.create("a red circle moving right on a black background", size="128x128", num_frames=17,
                                    num_inference_steps=12, guidance_scale=5, seed=i))
            seconds.append(time.monotonic() - began)
            assert video["status"] == "completed", video
            videos.append(video)
        most_mb = d.status_kib("VmHWM") * 1024 / 1e6
    print(f"128x128, 17 frames, 12 guided steps: first answer {seconds[0]:.2f} s after the first request, "
          f"then {statistics.median(seconds[1:] or seconds):.2f} s (median of {max(JOBS - 1, 1)})")
    for stage in videos[-1]["stage_seconds"]:
        print(f"  {stage:16} {statistics.median(v['stage_seconds'].get(stage, 0) for v in videos) * 1000:8.1f} ms")
    print(f"preheatd held {most_mb:.0f} MB at most, wanted are {MOST_MB} MB and {MOST_SECONDS} s")
    engine()
    return max(seconds) > MOST_SECONDS or most_mb > MOST_MB


sys.exit(main())
