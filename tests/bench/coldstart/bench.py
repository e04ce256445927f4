#!/usr/bin/env python3
"""From nothing to a video: preheat from every tier beside diffusers and today's loaders, one command on a GPU machine.

  bench.py --work DIR --build DIR [--module SO] [--model DIR] [--spiece FILE] [--stages A,B,...] [--rounds N] [--limit SECONDS]

Stages: prepare  makes the checkpoint (full size, random weights; unless --model is one), its manifest and the segment
        raw      reads the checkpoint's bytes past the page cache as fast as the disk gives them
        diffusers, diffusers-cold         process start to the end of the clip, page cache warm and dropped
        torch, instanttensor, fastsafetensors, runai; each also with -cold: process start to all weights usable
        disk, disk-warm, host, vram       preheat: nothing kept (page cache dropped, warm), segment, parked; each followed by hot
        table    prints what all commands with this --work found so far
        clean    gives the segment's memory back
Without --stages all of them. A round runs each stage once in turn, so that runs are interleaved. Results are lines in
DIR/results.jsonl, kept from command to command: a machine that ends commands after some minutes gets several of few rounds each;
--limit begins no further run after so many seconds. Without --module the CPU's engine computes (--device cpu for the loaders).

All seconds count from before the process exists; preheat's from the connection that starts it. "usable" is all weights on the
device, "first" the first guided denoising step, "last" the last byte of the clip (--frames, --steps), "penalty" last minus hot.
"""
import argparse
import collections
import ctypes
import json
import mmap
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from manager import Manager, Systemd
from standin import Client

LOADERS = ("torch", "instanttensor", "fastsafetensors", "runai")
TIERS = {"disk": "cold_disk", "disk-warm": "cold_disk", "host": "cold_host", "vram": "parked"}
RUNS = ("raw", "diffusers", "diffusers-cold", *(x for name in LOADERS for x in (name, name + "-cold")), *TIERS)
STAGES = ("prepare", *RUNS, "table", "clean")
PROMPT = "a red circle moving right on a black background"


def weight_files(model):
    return sorted(pathlib.Path(model).rglob("*.safetensors"))


class PageCache:
    """Of the checkpoint's files, looked at with mincore."""

    def __init__(self, model):
        self.files = weight_files(model)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        self.libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self.libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def share(self):
        """Of the files' pages in the cache; None where the kernel does not say."""
        cached = total = 0
        for path in self.files:
            n = path.stat().st_size
            pages = (n + mmap.PAGESIZE - 1) // mmap.PAGESIZE
            seen = (ctypes.c_ubyte * pages)()
            with open(path, "rb") as f:
                at = self.libc.mmap(None, n, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
            failed = self.libc.mincore(at, n, seen)
            self.libc.munmap(at, n)
            if failed:
                return None
            cached += bytes(seen).count(1)
            total += pages
        return round(cached / total, 3)

    def drop(self):
        for path in self.files:
            with open(path, "rb") as f:
                os.fsync(f.fileno())
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        everything = pathlib.Path("/proc/sys/vm/drop_caches")
        if self.share() != 0 and os.access(everything, os.W_OK):
            os.sync()
            everything.write_text("1")

    def warm(self):
        if self.share() == 1:
            return
        buffer = bytearray(16 << 20)
        for path in self.files:
            with open(path, "rb", buffering=0) as f:
                while f.readinto(buffer):
                    pass


def read_raw(files, depth=32, size=8 << 20):
    """Bytes and seconds of reading them with O_DIRECT."""
    pieces = collections.deque((path, at) for path in files for at in range(0, path.stat().st_size, size))
    done = []

    def work():
        buffer = mmap.mmap(-1, size)
        n, fds = 0, {}
        while pieces:
            try:
                path, at = pieces.popleft()
            except IndexError:
                break
            if path not in fds:
                fds[path] = os.open(path, os.O_RDONLY | os.O_DIRECT)
            n += os.preadv(fds[path], [buffer], at)
        for fd in fds.values():
            os.close(fd)
        done.append(n)

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(depth)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(done), time.monotonic() - began


class Bench:
    def __init__(self, a):
        self.a, self.work = a, pathlib.Path(a.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.model = pathlib.Path(a.model) if a.model else self.work / "checkpoint"
        self.segment, self.results = self.work / "huge" / "bench", self.work / "results.jsonl"
        self.managers, self.cache = {}, None
        self.body = dict(prompt=PROMPT, seed=7, size=a.size, num_frames=a.frames, num_inference_steps=a.steps, guidance_scale=a.guidance)

    def configure(self, name, segment, park):
        directory = self.work / name
        (directory / "state").mkdir(parents=True, exist_ok=True)
        kept = self.work / "prepare" / "state" / "models"  # one manifest for all
        if kept.is_dir() and not (directory / "state" / "models").exists():
            (directory / "state" / "models").symlink_to(kept)
        module = f"module = {self.a.module}\n" if self.a.module else ""
        (directory / "preheat.conf").write_text(
            f"[model]\nname = bench\npath = {self.model}\nsegment = {segment}\n[backend]\n{module}"
            f"kind = {'cuda' if self.a.module else 'cpu'}\npark_vram = {park}\n[daemon]\nversion_lock =\n"
            f"[jobs]\nstate_dir = {directory}/state\n[media]\nprogram = {self.a.build}/daemon/preheat-media\n")
        return str(directory / "preheat.conf")

    def prepare(self):
        if not self.model.is_dir():
            began = time.monotonic()
            subprocess.run([sys.executable, HERE.parent / "engine" / "make-checkpoint.py", self.model, self.a.spiece,
                            "--scale", str(self.a.scale)], check=True)
            print(f"checkpoint made in {time.monotonic() - began:.1f} s", flush=True)
        self.segment.parent.mkdir(exist_ok=True)
        if not os.path.ismount(self.segment.parent):
            subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", self.segment.parent], check=False)
        program = [self.a.build + "/daemon/preheat-warmup", "--config", self.configure("prepare", self.segment, "no")]
        subprocess.run([*program, "--reserve"], check=False)
        subprocess.run(program, check=True)

    def clean(self):
        subprocess.run([self.a.build + "/daemon/preheat-warmup", "--config", self.work / "prepare" / "preheat.conf", "--evict"], check=True)
        if os.path.ismount(self.segment.parent):
            subprocess.run(["umount", self.segment.parent], check=True)

    def manager(self, tier):
        if tier not in self.managers:
            segment = self.work / "none" if tier.startswith("disk") else self.segment
            config = self.configure(tier, segment, "yes" if tier == "vram" else "no")
            log = open(self.work / tier / "log", "a+")
            self.managers[tier] = Manager(self.a, Systemd(self.a, self.work / tier, log), config, log)
            if tier == "vram":
                self.start_and_serve(self.managers[tier])
        return self.managers[tier]

    def start_and_serve(self, m):
        """A cold request and a hot one of the same seed; what the start said of itself."""
        client = Client(m)
        _, data, first, last = client.make(self.body, m.start)
        while (health := json.loads(client.ask("GET", "/healthz")))["phase"] != "serving":
            time.sleep(0.01)
        _, hot_data, hot_first, hot_last = Client(m).make(self.body)
        m.end(signal.SIGTERM)
        detail = health["detail"]
        load = [s for s in detail["start"] if s["name"] == "load"][0]
        return dict(weights=detail["weights"], usable_s=detail["seconds_before_start"] + load["end"], first_s=first, last_s=last,
                    hot_first_s=hot_first, hot_last_s=hot_last, penalty_s=last - hot_last, same_bytes=data == hot_data)

    def run_tier(self, tier):
        m = self.manager(tier)
        if tier == "disk":
            self.cache.drop()
        elif tier == "disk-warm":
            self.cache.warm()
        cached = self.cache.share()
        r = self.start_and_serve(m)
        if r["weights"] != TIERS[tier]:
            raise SystemExit(f"{tier}: weights came from {r['weights']}, wanted is {TIERS[tier]}\n{m.said()[-3000:]}")
        return dict(r, cached_before=cached)

    def run_program(self, name):
        loader, cold = name.removesuffix("-cold"), name.endswith("-cold")
        self.cache.drop() if cold else self.cache.warm()
        cached = self.cache.share()
        if loader == "diffusers":
            command = [HERE / "diffusers-start.py", self.model, "--size", self.a.size, "--frames", str(self.a.frames), "--steps",
                       str(self.a.steps), "--guidance", str(self.a.guidance), "--device", self.a.device]
        else:
            command = [HERE / "peers-load.py", loader, self.model, "--device", self.a.device]
        began = time.monotonic()
        p = subprocess.run([sys.executable, *command, "--began", repr(began)], capture_output=True, text=True)
        lines = p.stdout.splitlines()
        if p.returncode:
            return dict(error=(lines[-1:] or p.stderr.strip().splitlines()[-1:] or [f"status {p.returncode}"])[0][:300])
        return dict(json.loads(lines[-1]), cached_before=cached)

    def run_raw(self):
        self.cache.drop()
        n, seconds = read_raw(self.cache.files)
        return dict(usable_s=seconds, gigabytes=round(n / 1e9, 3), gb_per_s=round(n / 1e9 / seconds, 2))

    def run(self, stages):
        self.cache = self.cache or PageCache(self.model)
        unfit = {r["run"] for r in self.read() if "error" in r}
        for i in range(self.a.rounds):
            for name in stages:
                if name in unfit:
                    continue
                if time.monotonic() - self.a.began > self.a.limit:
                    print(f"stopped before {name} of round {i + 1}, {self.a.limit} s are over", flush=True)
                    return
                r = self.run_raw() if name == "raw" else self.run_tier(name) if name in TIERS else self.run_program(name)
                if "error" in r:
                    unfit.add(name)
                line = dict(run=name, machine=self.a.machine, **{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()})
                with open(self.results, "a") as f:
                    f.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)

    def read(self):
        return [json.loads(line) for line in self.results.read_text().splitlines()] if self.results.exists() else []

    def table(self):
        lines, columns = self.read(), ("usable_s", "first_s", "last_s", "penalty_s")
        runs = {name: [r for r in lines if r["run"] == name and "error" not in r] for name in RUNS}
        value = lambda name, key, of=statistics.median: of([r[key] for r in runs[name] if key in r]) if any(key in r for r in runs[name]) else None
        machines = " / ".join(dict.fromkeys(r["machine"] for r in lines))
        print(f"{machines}\n{self.a.size}, {self.a.frames} frames, {self.a.steps} guided steps; median (worst) in seconds")
        print(f"{'run':22}{'n':>4}" + "".join(f"{c.removesuffix('_s'):>18}" for c in columns))
        for name in RUNS:
            if runs[name]:
                cells = [f"{value(name, c):.3f} ({value(name, c, max):.3f})" if value(name, c) is not None else "-" for c in columns]
                print(f"{name:22}{len(runs[name]):4}" + "".join(f"{c:>18}" for c in cells))
        for r in lines:
            if "error" in r:
                print(f"{r['run']:22}   - does not run here: {r['error']}")
        print("\nratios of medians, theirs to ours (above 1: preheat is faster)")
        print(f"{'':22}" + "".join(f"{tier:>22}" for tier in TIERS) + "   (usable / first step)")
        for name in RUNS:
            cells = []
            for tier in TIERS:
                pair = [value(name, c) / value(tier, c) if value(name, c) and value(tier, c) else None for c in ("usable_s", "first_s")]
                cells.append(" / ".join(f"{x:.2f}" if x else "-" for x in pair))
            if name not in TIERS and runs[name]:
                print(f"{name:22}" + "".join(f"{c:>22}" for c in cells))
        for tier in TIERS:
            if runs[tier]:
                same = all(r["same_bytes"] for r in runs[tier])
                worst = value(tier, "penalty_s", max) / value(tier, "penalty_s")
                print(f"{tier}: {'same bytes in every run' if same else 'BYTES DIFFER'}, worst penalty {worst:.2f} of the median")

    def close(self):
        for m in self.managers.values():
            if m.pid:
                m.end(signal.SIGKILL)
            m.drop()


def machine():
    gpu = subprocess.run("nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader", shell=True,
                         capture_output=True, text=True).stdout.strip()
    return f"{gpu or 'no GPU'}; {len(os.sched_getaffinity(0))} CPUs, {platform.system()} {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--module")
    parser.add_argument("--model")
    parser.add_argument("--spiece", default=str(HERE.parents[2] / "packaging/models/tiny-wan/tokenizer/spiece.model"))
    parser.add_argument("--scale", type=float, default=1.0, help="of the checkpoint's depth, for a quick try")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=5)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit", type=float, default=1e9)
    a = parser.parse_args()
    a.began, a.machine, stages = time.monotonic(), machine(), a.stages.split(",")
    if wrong := set(stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(wrong))}; there are {', '.join(STAGES)}")
    for name in ("work", "build", "module", "model"):
        setattr(a, name, getattr(a, name) and os.path.abspath(getattr(a, name)))
    bench = Bench(a)
    try:
        if "prepare" in stages:
            bench.prepare()
        if runs := [s for s in stages if s in RUNS]:
            bench.run(runs)
        if "table" in stages:
            bench.table()
    finally:
        bench.close()
    if "clean" in stages:
        bench.clean()


main()
