#!/usr/bin/env python3
"""Seconds that a request waits when nothing runs, against the same request on a running daemon.

  bench-coldstart.py --build DIR --model DIR [--module SO] [--segment FILE] [--size WxH] [--frames N] [--steps N] [--rounds N]

The daemon is started with its socket when the request has connected; all seconds count from the connection. Each round: one cold
request, process start included, then a hot one with the same seed; both files must be equal. With --segment the weights come
from the file that preheat-warmup filled, else from the checkpoint's files, whose pages are cached after the first round. Prints a
line a round, then medians, worst and the penalty as JSON.
"""
import argparse
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
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    a = parser.parse_args()
    body = dict(prompt="a red circle moving right on a black background", seed=7, size=a.size, num_frames=a.frames,
                num_inference_steps=a.steps, guidance_scale=a.guidance)
    cold, hot, same = [], [], True
    with Service(a.build, a.model, a.module, a.segment) as service:
        for i in range(a.rounds):
            client = Client(service)
            job, data, *seconds = client.make(body, service.start)
            detail = json.loads(client.ask("GET", "/healthz"))["detail"]
            hot_job, hot_data, *hot_seconds = Client(service).make(body)
            service.stop()
            same &= data == hot_data
            cold.append(seconds)
            hot.append(hot_seconds)
            steps = {s["name"]: round(s["end"] - s["start"], 3) for s in detail["start"]}
            print(f"round {i}: cold {seconds[1]:.3f} s (first step {seconds[0]:.3f}), hot {hot_seconds[1]:.3f} s (first step"
                  f" {hot_seconds[0]:.3f}), {detail.get('weights')}, {'same bytes' if data == hot_data else 'BYTES DIFFER'}, start {steps},"
                  f" stages {job['stage_seconds']}", flush=True)
    median = lambda runs, k: sorted(r[k] for r in runs)[len(runs) // 2]
    print(json.dumps(dict(
        rounds=a.rounds, size=a.size, frames=a.frames, steps=a.steps, weights="segment" if a.segment else "files",
        cold_s=round(median(cold, 1), 3), cold_worst_s=round(max(r[1] for r in cold), 3), hot_s=round(median(hot, 1), 3),
        penalty_s=round(median(cold, 1) - median(hot, 1), 3), cold_first_step_s=round(median(cold, 0), 3),
        hot_first_step_s=round(median(hot, 0), 3), same_bytes=same)))


main()
