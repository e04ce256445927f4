#!/usr/bin/env python3
"""diffusers and preheat on the same weights, in one run on one machine: a table of ratios.

  bench.py --build DIR --model DIR [--backend MODULE.so] [--clip WxHxFRAMES]... [--compile WxHxFRAMES] [--repeat N] [--grid ROWSxCOLS]
           [--spiece FILE] [--json FILE]

MODEL is made first (make-checkpoint.py, full size, random weights) where it is not there and --spiece names a tokenizer.
diffusers runs first and alone, then bench-engine. --compile times the transformer compiled for that clip, too, which
takes minutes. --grid has preheat decode in so many tiles as well. Every line that was measured goes to --json.
"""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CLIPS = ["1280x704x121", "832x480x81"]


def lines(command):
    """The JSON objects that a program prints, shown as they come."""
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            sys.stderr.write(line)
            if line.startswith("{"):
                found.append(json.loads(line))
    if process.returncode:
        sys.exit(f"{os.path.basename(command[0])} ended with {process.returncode}")
    return found


def run_diffusers(a):
    command = [sys.executable, f"{HERE}/diffusers-times.py", a.model, "--repeat", str(a.repeat), "--product", str(a.product)]
    for clip in a.clip:
        command += ["--clip", clip]
    return lines(command + (["--compile", a.compile] if a.compile else []))


def run_preheat(a):
    engine = [f"{a.build}/tests/bench/bench-engine", "--model", a.model, "--backend", a.backend, "--repeat", str(a.repeat)]
    if a.pin:
        engine.append("--pin")
    found = []
    for i, clip in enumerate(a.clip):
        size, frames = clip.rsplit("x", 1)
        shape = ["--size", size, "--frames", frames]
        found += [dict(line, clip=clip) for line in lines(engine + shape + ["--stages", "dit,vae" if i else "t5,dit,vae"])]
        if a.grid:
            found += [dict(line, clip=clip, grid=a.grid) for line in lines(engine + shape + ["--stages", "vae", "--grid", a.grid])]
    return found


def gib(line):
    return line["workspace_gib"] if "workspace_gib" in line else line["workspace_mib"] / 1024


def row(what, theirs, ours, product):
    if "failed" in theirs:
        return f"{what:<34} {theirs['failed']}"
    share = f"{ours['tflop_per_s']:8.0f} {ours['tflop_per_s'] / product:7.2f}" if ours["tflop_per_s"] else " " * 16
    return (f"{what:<34} {theirs['median_s']:10.4f} {ours['median_s']:10.4f} {theirs['median_s'] / ours['median_s']:7.2f} {share}"
            f" {gib(theirs):8.2f} {gib(ours):8.2f}")


def table(theirs, ours):
    product = next(line["tflop_per_s"] for line in theirs if line["stage"] == "product")
    yield f"{'':34} {'diffusers':>10} {'preheat':>10} {'times':>7} {'TFLOP/s':>8} {'of prod':>7} {'GiB':>8} {'GiB':>8}"
    for line in theirs:
        if line["stage"] not in ("t5", "dit", "vae"):
            continue
        what = " ".join(filter(None, (line["stage"], line.get("clip"), line.get("how"))))
        for own in ours:
            if own["stage"] == line["stage"] and line.get("clip", own["clip"]) == own["clip"]:
                yield row(what + (f" in {own['grid']} tiles" if "grid" in own else ""), line, own, product)
    yield f"\nThe product that 'of prod' is a share of: {product:.0f} TFLOP/s, bf16, by torch. GiB are beside the weights."
    compiled = [line for line in theirs if line.get("how") == "compiled" and "first_s" in line]
    for line in compiled:
        yield f"Compiling for {line['clip']} took {line['first_s']:.0f} s."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--clip", action="append")
    parser.add_argument("--compile")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--product", type=int, default=8192)
    parser.add_argument("--grid")
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--spiece")
    parser.add_argument("--json")
    a = parser.parse_args()
    a.clip = a.clip or CLIPS
    if not os.path.exists(f"{a.model}/model_index.json"):
        if not a.spiece:
            sys.exit(f"{a.model} has no model_index.json, and no --spiece to make it with")
        subprocess.run([sys.executable, f"{HERE}/make-checkpoint.py", a.model, a.spiece], check=True)
    theirs = run_diffusers(a)
    ours = run_preheat(a)
    if a.json:
        with open(a.json, "w") as f:
            f.writelines(json.dumps(dict(by=by, **line)) + "\n" for by, all_lines in (("diffusers", theirs), ("preheat", ours))
                         for line in all_lines)
    device = next(line["device"] for line in ours if line["stage"] == "load")
    torch = next(line["torch"] for line in theirs if line["stage"] == "machine")
    print(f"{device}, torch {torch}; seconds are medians of {a.repeat}")
    print("\n".join(table(theirs, ours)))


main()
