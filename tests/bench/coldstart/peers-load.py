#!/usr/bin/env python3
"""Loads all weights of a checkpoint onto the device as one of today's loaders does it, in a fresh process.

  peers-load.py LOADER MODEL [--device cuda:0] [--began SECONDS]

LOADER: torch (safetensors.torch.load_file), instanttensor, fastsafetensors, runai (its model streamer). Prints one JSON line:
seconds from --began (of CLOCK_MONOTONIC; else this script's first line) until the loader is imported, the device has a context, and
every tensor is on it and can be read; tensors and bytes, which are held against the files' headers. Exits 77 where the loader cannot be
imported.
"""
import time

FIRST_LINE = time.monotonic()

import argparse
import glob
import json
import os
import struct
import sys


def files_of(model):
    return sorted(glob.glob(os.path.join(model, "**", "*.safetensors"), recursive=True))


def header(path):
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        return {name: t for name, t in json.loads(f.read(n)).items() if name != "__metadata__"}


def with_torch(paths, device):
    from safetensors.torch import load_file
    yield
    yield [t for path in paths for t in load_file(path, device=device).values()]


def with_instanttensor(paths, device):
    from instanttensor import safe_open
    yield
    tensors = []
    for part in group_by_directory(paths):  # names are unique within a part only
        with safe_open(part, framework="pt", device=device) as f:
            tensors += [t for _, t in f.tensors()]
    yield tensors


def with_fastsafetensors(paths, device):
    from fastsafetensors import fastsafe_open
    yield
    tensors = []
    for part in group_by_directory(paths):
        f = fastsafe_open(filenames=part, nogds=True, device=device)
        tensors += [f.get_tensor(name) for name in f.keys()]
    yield tensors


def with_runai(paths, device):
    from runai_model_streamer import SafetensorsStreamer
    yield
    tensors = []
    for part in group_by_directory(paths):
        with SafetensorsStreamer() as s:
            s.stream_files(part, device=device)
            tensors += [t.to(device, copy=True) for _, t in s.get_tensors()]  # the streamer's buffer is used again
    yield tensors


def group_by_directory(paths):
    return [[p for p in paths if os.path.dirname(p) == d] for d in dict.fromkeys(map(os.path.dirname, paths))]


LOADERS = {"torch": with_torch, "instanttensor": with_instanttensor, "fastsafetensors": with_fastsafetensors, "runai": with_runai}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loader", choices=LOADERS)
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--began", type=float, default=FIRST_LINE)
    a = parser.parse_args()
    paths, marks = files_of(a.model), {}
    mark = lambda name: marks.update({name: round(time.monotonic() - a.began, 3)})
    try:
        import torch
        load = LOADERS[a.loader](paths, a.device)
        next(load)
    except ImportError as e:
        print(json.dumps(dict(loader=a.loader, error=str(e))))
        sys.exit(77)
    mark("imported_s")
    probe = torch.zeros(1, device=a.device)
    probe.item()
    mark("context_s")
    tensors = next(load)
    if a.device.startswith("cuda"):
        torch.cuda.synchronize()
    mark("usable_s")
    wanted = [t for path in paths for t in header(path).values()]
    n = sum(t.numel() * t.element_size() for t in tensors)
    if len(tensors) != len(wanted) or n != sum(t["data_offsets"][1] - t["data_offsets"][0] for t in wanted):
        sys.exit(f"{a.loader}: {len(tensors)} tensors of {n} bytes, the files have {len(wanted)}")
    if any(str(t.device) != str(probe.device) for t in tensors):
        sys.exit(f"{a.loader}: tensors are on {set(str(t.device) for t in tensors)}")
    print(json.dumps(dict(loader=a.loader, **marks, tensors=len(tensors), gigabytes=round(n / 1e9, 3))))
    sys.stdout.flush()
    os._exit(0)  # what a loader does at its end is not measured


main()
