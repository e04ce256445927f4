#!/usr/bin/env python3
"""bench.py BUILDDIR [--gb N] [--dir DIR] [--fio PATH] [--rounds N]: the warm-up against fio and against loading as
people do it.

Makes a model of random weights (4 GB) in DIR or $TMPDIR and measures in one run, everything at the same priority:
  cold   page cache dropped before each: fio (io_uring, O_DIRECT, registered buffers in huge pages) at the best of
         several depths, preheat-warmup with both readers, in turn, many short rounds; its resident memory, what it left in
         the page cache
  warm   files in the page cache: read() and mmap copies into anonymous memory, preheat-warmup, a start on its segment
  wait   cold: how long a daemon that copies its weights waits for the disk and for how much of it, and one that finds
         them in a segment
Where there is no fio, "bench-load direct" takes its place: as little as a reader by io_uring can do. Wants root, for huge
pages and priority; does without, and says so. Settings of the kernel are put back. BUILDDIR may be what `bundle` packed."""
import argparse, json, os, pathlib, re, shutil, statistics, struct, subprocess, sys, tempfile, time

PARSER = argparse.ArgumentParser()
PARSER.add_argument("build", type=pathlib.Path)
PARSER.add_argument("--gb", type=float, default=4)
PARSER.add_argument("--dir", default=None)
PARSER.add_argument("--fio", default=None)
PARSER.add_argument("--rounds", type=int, default=10)
ARGS = PARSER.parse_args()
WARMUP = ARGS.build / "daemon/preheat-warmup"
LOAD = ARGS.build / "tests/bench/bench-load"
FIO = ARGS.fio or (str(ARGS.build / "fio") if (ARGS.build / "fio").exists() else shutil.which("fio"))
POOL = pathlib.Path("/proc/sys/vm/nr_hugepages")
DEPTHS = ((8, 2048), (32, 1024), (32, 2048), (64, 512), (64, 2048))  # KiB
FIRST = ["nice", "-n", "-20"] if os.geteuid() == 0 else []


def run(*command):
    done = subprocess.run([*FIRST, *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"[:1000])
    return done.stdout


def weights(path, names, total):
    """Random bf16 below 1: the exponent's top bit is cleared, so nothing is infinite."""
    each = int(total / len(names)) // 2048 * 2048
    head, at = {}, 0
    for name in names:
        head[name] = {"dtype": "BF16", "shape": [each // 2048, 1024], "data_offsets": [at, at + each]}
        at += each
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    keep = int.from_bytes(b"\xff\xbf" * (1 << 19), "little")
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            n = min(at, 1 << 20)
            f.write((int.from_bytes(os.urandom(1 << 20), "little") & keep).to_bytes(1 << 20, "little")[:n])
            at -= n
        os.fsync(f.fileno())


def make_model(root):
    for part in ("text_encoder", "transformer", "vae", "scheduler", "tokenizer"):
        (root / part).mkdir()
    for name in ("model_index", "text_encoder/config", "transformer/config", "vae/config",
                 "scheduler/scheduler_config"):
        (root / f"{name}.json").write_text("{}")
    (root / "tokenizer/spiece.model").write_bytes(b"x")
    weights(root / "text_encoder/model.safetensors",
            ["shared.weight"] + [f"encoder.block.{i}.w" for i in range(24)], ARGS.gb * 1e9 * .47)
    weights(root / "transformer/diffusion_pytorch_model.safetensors",
            sorted(f"blocks.{i}.w" for i in range(30)), ARGS.gb * 1e9 * .42)
    weights(root / "vae/diffusion_pytorch_model.safetensors",
            [f"decoder.up_blocks.{i}.w" for i in range(4)], ARGS.gb * 1e9 * .11)


def load(*args):
    """(seconds, GB, seconds of waiting, GB from the disk)"""
    return tuple(map(float, run(LOAD, *args).split()))


def drop(root):
    load("drop", root)
    left = load("cached", root)[1]
    if left > .01:
        sys.exit(f"{left:.2f} GB of the model stay in the page cache")


def fio(root, files, depth, kib):
    """Bytes a second from a dropped page cache."""
    drop(root)
    if not FIO:
        seconds, gb, _, _ = load("direct", root, depth, kib * 1024)
        return gb * 1e9 / seconds
    if HUGE:
        fill_pool(HUGE)
    out = run(FIO, "--name=seq", "--filename=" + ":".join(files), "--rw=read", "--direct=1", "--ioengine=io_uring",
              "--fixedbufs=1", "--iomem=" + ("mmaphuge" if HUGE else "mmap"), f"--iodepth={depth}", f"--bs={kib}k", "--readonly",
              "--file_service_type=sequential", "--output-format=json")
    job = json.loads(out[out.index("{"):])["jobs"][0]["read"]
    return job["io_bytes"] / (job["runtime"] / 1e3)


def fill_pool(wanted):
    """Reserves pages for the segment, so that nobody else takes them meanwhile; false when there are too few."""
    def free():
        return int(re.search(r"HugePages_Free: +(\d+)", open("/proc/meminfo").read())[1])
    for _ in range(5):
        if free() >= wanted:
            return True
        try:
            POOL.write_text(str(int(POOL.read_text()) + wanted - free()))
            if free() < wanted:             # memory is in pieces
                (POOL.parent / "compact_memory").write_text("1")
        except OSError:
            return False
    return free() >= wanted


class Warmup:
    """One run: seconds of the filling as it says itself, seconds in all, resident MiB besides a segment in huge pages."""

    def __init__(self, root, segment, reader, attempts=5):
        run(WARMUP, "--config", root / "preheat.conf", "--evict", "--segment", segment)
        start = time.monotonic()
        p = subprocess.Popen([*FIRST, WARMUP, "--config", root / "preheat.conf", "--model", root, "--manifest",
                              root / "bench.manifest", "--segment", segment, "--reader", reader],
                             stderr=subprocess.PIPE, text=True)
        log = p.stderr.read()
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        self.wall = time.monotonic() - start
        if p.returncode:
            sys.exit(log)
        self.filled = float(log.split(" s: ")[0].rsplit(" ", 1)[1])
        self.rss = usage.ru_maxrss / 1024
        if HUGE and "shared memory" in log:     # other tests on this machine set the kernel's pool, too
            if attempts == 0 or not fill_pool(HUGE):
                sys.exit(f"somebody took the huge pages: {log}")
            drop(root)
            self.__init__(root, segment, reader, attempts - 1)


def say(label, value, wanted=""):
    print(f"{label:<58} {value}{'   wanted ' + wanted if wanted else ''}", flush=True)


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "?")
    mem = int(open("/proc/meminfo").readline().split()[1]) // 1048576
    return f"{os.cpu_count()} x {cpu}, {mem} GiB, Linux {os.uname().release}"


def cold(root, files, size, segment):
    fio(root, files, *DEPTHS[0])            # whatever is behind the disk has seen the files now
    rate = {d: [] for d in DEPTHS}
    for _ in range(3):
        for d in DEPTHS:
            rate[d].append(fio(root, files, *d))
    how = max(rate, key=lambda d: statistics.median(rate[d]))
    say("cold: median GB/s by depth and KiB",
        ", ".join(f"{d}x{k} {statistics.median(v) / 1e9:.2f}" for (d, k), v in rate.items()))
    found = {"fio": [], "io_uring": [], "threads": []}
    ratios = {"io_uring": [], "threads": []}
    rss, grown, wall = {}, {}, {}
    for i in range(ARGS.rounds):            # side by side, in either order: a shared disk changes its mind
        order = ["fio", "io_uring", "threads"]
        round_found = {}
        for way in order if i % 2 else reversed(order):
            if way == "fio":
                round_found[way] = fio(root, files, *how)
                continue
            drop(root)
            w = Warmup(root, segment, way)
            round_found[way] = size / w.filled
            rss[way] = max(rss.get(way, 0), w.rss)
            wall.setdefault(way, []).append(w.wall)
            grown[way] = max(grown.get(way, 0), load("cached", root)[1] * 1e9)
        for way, x in round_found.items():
            found[way].append(x)
        for way in ratios:
            ratios[way].append(round_found[way] / round_found["fio"])
    text = {k: " ".join(f"{x / 1e9:.2f}" for x in v) for k, v in found.items()}
    say(f"cold: {'fio' if FIO else 'bench-load direct, no fio here'}, GB/s, {how[0]} x {how[1]} KiB", text["fio"])
    best = max(found["fio"])
    for reader in ("io_uring", "threads"):
        say(f"cold: warm-up by {reader}, GB/s", text[reader])
        say("      best of what fio reads at best", f"{100 * max(found[reader]) / best:.1f} %", ">= 97 %")
        say("      of fio in the same round, median", f"{100 * statistics.median(ratios[reader]):.1f} %", ">= 97 %")
        say("      whole process with getting the memory, median", f"{statistics.median(wall[reader]):.2f} s")
        say("      resident besides the segment", f"{rss[reader]:.0f} MiB", "<= 64 MiB" if HUGE else "segment + 64 MiB")
        say("      left in the page cache", f"{grown[reader] / 2**20:.1f} MiB", "<= 64 MiB")


def starts(root, files, segment):
    n = max(ARGS.rounds // 3, 3)
    Warmup(root, segment, "auto")
    waits = {"read": [], "mmap": [], "segment": []}
    for _ in range(n):
        for way in waits:
            drop(root)
            what = (root / "bench.manifest", segment) if way == "segment" else (root,)
            waits[way].append(load(way, *what))
    for way, runs in waits.items():
        say(f"wait: start by {way}, page cache cold, median", f"{statistics.median(r[0] for r in runs) * 1e3:.1f} ms, "
            f"{statistics.median(r[2] for r in runs) * 1e3:.1f} ms of it waiting for {max(r[3] for r in runs):.2f} GB")
    wait = {way: statistics.median(r[2] for r in runs) for way, runs in waits.items()}
    least = min(wait["read"], wait["mmap"])
    say("      waiting saved against the better copy", f"{100 * (1 - wait['segment'] / least):.1f} %" if least else "?",
        ">= 70 %")
    warm = {"read": [], "mmap": [], "warm-up": [], "segment": []}
    load("read", root)
    for _ in range(n):                      # each finds the files cached, and none pushes them out
        for way in ("read", "mmap"):
            warm[way].append(load(way, root)[0])
        warm["warm-up"].append(Warmup(root, segment, "auto").filled)
        warm["segment"].append(load("segment", root / "bench.manifest", segment)[0])
    middle = {way: statistics.median(v) for way, v in warm.items()}
    for way, what in (("read", "read() copy, one thread"), ("mmap", "mmap copy, one thread"),
                      ("warm-up", "warm-up, verified"), ("segment", "start on the segment, every page touched")):
        say(f"warm: {what}, median", f"{middle[way] * 1e3:.0f} ms")
    copy = min(middle["read"], middle["mmap"])
    say("      warm-up against the better copy", f"{copy / middle['warm-up']:.1f} x", ">= 3 x")
    say("      start against the better copy", f"{copy / middle['segment']:.0f} x", ">= 3 x")


def measure(root, segment):
    (root / "preheat.conf").write_text("[warmup]\nfree_memory_floor = 64M\n")
    files = sorted(str(p) for p in root.rglob("*.safetensors"))
    size = sum(map(os.path.getsize, files))
    Warmup(root, segment, "auto")           # makes the manifest
    print(f"{machine()}\nmodel of {size / 1e9:.2f} GB, {ARGS.rounds} rounds, load {os.getloadavg()[0]:.1f}, segment in "
          f"{'huge pages' if HUGE else 'shared memory: no huge pages to be had here'}\n", flush=True)
    cold(root, files, size, segment)
    starts(root, files, segment)
    run(WARMUP, "--config", root / "preheat.conf", "--evict", "--segment", segment)
    say("", f"load {os.getloadavg()[0]:.1f} at the end")


def main():
    global HUGE
    root = pathlib.Path(tempfile.mkdtemp(prefix="preheat-bench-", dir=ARGS.dir))
    huge = tempfile.mkdtemp(prefix="preheat-bench-huge-")
    before = POOL.read_text()
    HUGE = int(ARGS.gb * 1e9 / 2**21) + 160  # pages that the segment and fio's buffers need, 0 without
    try:
        make_model(root)
        if not fill_pool(HUGE) or subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", huge]).returncode:
            HUGE = 0
        measure(root, f"{huge if HUGE else '/dev/shm'}/bench")
    finally:
        if HUGE:
            subprocess.run(["umount", huge], check=False)
        try:
            POOL.write_text(before)
        except OSError:
            pass                            # it could not be set either
        shutil.rmtree(root)
        os.rmdir(huge)


if __name__ == "__main__":
    main()
