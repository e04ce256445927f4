#!/usr/bin/env python3
"""bench.py BUILDDIR [GB]: the warm-up against fio and against loading as people do it.

Makes a model of random weights (default 4 GB) in $TMPDIR, then measures in one run, as root:
  cold   page cache dropped: fio (io_uring, O_DIRECT, registered buffers in huge pages, the best of
         several depths), preheat-warmup with both readers into hugetlbfs; its resident memory, what it left in the page cache
  warm   files in the page cache: read() and mmap copies into anonymous memory, preheat-warmup
  start  segment filled: until all weights are usable in a new process
Ratios are printed with what they must be. Settings of the kernel are put back."""
import json, os, pathlib, shutil, statistics, struct, subprocess, sys, tempfile, time

ROUNDS = 4
BUILD = pathlib.Path(sys.argv[1])
GB = float(sys.argv[2]) if len(sys.argv) > 2 else 4
WARMUP = BUILD / "daemon/preheat-warmup"
LOAD = BUILD / "tests/bench/bench-load"
DELAYS = pathlib.Path("/proc/sys/kernel/task_delayacct")
OVERCOMMIT = pathlib.Path("/proc/sys/vm/nr_overcommit_hugepages")


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
            ["shared.weight"] + [f"encoder.block.{i}.w" for i in range(24)], GB * 1e9 * .47)
    weights(root / "transformer/diffusion_pytorch_model.safetensors",
            sorted(f"blocks.{i}.w" for i in range(30)), GB * 1e9 * .42)
    weights(root / "vae/diffusion_pytorch_model.safetensors",
            [f"decoder.up_blocks.{i}.w" for i in range(4)], GB * 1e9 * .11)


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def cached_bytes(files):
    out = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "RES", *files],
                         check=True, capture_output=True, text=True).stdout
    return sum(map(int, out.split()))


DEPTHS = ((8, "2m"), (32, "1m"), (32, "2m"), (64, "512k"))


def fio(files, depth, size):
    """Bytes a second from a dropped page cache."""
    drop_caches()
    out = subprocess.run(["fio", "--name=seq", "--filename=" + ":".join(files), "--rw=read",
        "--direct=1", "--ioengine=io_uring", "--fixedbufs=1", "--iomem=mmaphuge", f"--iodepth={depth}",
        f"--bs={size}", "--readonly", "--file_service_type=sequential", "--output-format=json"], check=True, capture_output=True,
        text=True).stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]["read"]
    return job["io_bytes"] / (job["runtime"] / 1e3)


def run_warmup(common, reader, segment):
    """Seconds of the filling as logged, seconds in all, resident MiB besides the segment."""
    if os.path.exists(segment):
        os.unlink(segment)
    start = time.monotonic()
    p = subprocess.Popen([WARMUP, *common, "--segment", segment, "--reader", reader],
                         stderr=subprocess.PIPE, text=True)
    log = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - start
    if p.returncode:
        sys.exit(log)
    filled = float(log.split(" s: ")[0].rsplit(" ", 1)[1])
    return filled, wall, usage.ru_maxrss / 1024


def load(*args):
    out = subprocess.run([LOAD, *args], check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[2])


def say(label, value, wanted=""):
    print(f"{label:<58} {value}{'   wanted ' + wanted if wanted else ''}", flush=True)


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "?")
    mem = int(open("/proc/meminfo").readline().split()[1]) // 1048576
    return f"{os.cpu_count()} x {cpu}, {mem} GiB, Linux {os.uname().release}"


def measure(root, huge):
    files = sorted(str(p) for p in root.rglob("*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    common = ["--model", root, "--manifest", root / "bench.manifest"]
    segment = f"{huge}/bench"
    run_warmup(common, "auto", segment)     # makes the manifest
    print(f"{machine()}\nmodel of {size / 1e9:.2f} GB, best of {ROUNDS} unless said\n")

    fio(files, *DEPTHS[0])                  # whatever is behind the disk has seen the files now
    rate = {d: max(fio(files, *d) for _ in range(2)) for d in DEPTHS}
    how = max(rate, key=rate.get)
    found = {"fio": [rate[how]], "io_uring": [], "threads": []}
    rss, grown = {}, {}
    for _ in range(ROUNDS):                 # side by side: disks of virtual machines change their mind
        found["fio"].append(fio(files, *how))
        for reader in ("io_uring", "threads"):
            drop_caches()
            before = cached_bytes(files)
            filled, _, mib = run_warmup(common, reader, segment)
            found[reader].append(size / filled)
            rss[reader] = max(rss.get(reader, 0), mib)
            grown[reader] = max(grown.get(reader, 0), cached_bytes(files) - before)
    best = max(found["fio"])
    text = {k: " ".join(f"{x / 1e9:.3f}" for x in v) for k, v in found.items()}
    say(f"cold: fio, GB/s, depth {how[0]} of {how[1]}", text["fio"])
    for reader in ("io_uring", "threads"):
        say(f"cold: warm-up by {reader}, GB/s", text[reader])
        say("      best of what fio reads at best", f"{100 * max(found[reader]) / best:.1f} %", ">= 97 %")
        say("      resident besides the segment", f"{rss[reader]:.0f} MiB", "<= 64 MiB")
        say("      left in the page cache", f"{grown[reader] / 2**20:.1f} MiB", "<= 64 MiB")

    cold = {}
    for way in ("read", "mmap"):
        drop_caches()
        cold[way] = load(way, root)
        say(f"cold: {way} copy, one thread, once", f"{cold[way][0]:.2f} s, {cold[way][1]:.2f} s of it waiting")
    for f in files:                         # into the page cache
        with open(f, "rb") as g:
            while g.read(1 << 24):
                pass
    warm = {way: min(load(way, root)[0] for _ in range(ROUNDS)) for way in ("read", "mmap")}
    for way, seconds in warm.items():
        say(f"warm: {way} copy, one thread", f"{seconds:.2f} s")
    filled = min(run_warmup(common, "auto", segment)[0] for _ in range(ROUNDS))
    say("warm: warm-up, verified", f"{filled:.2f} s")
    runs = [load("segment", root / "bench.manifest", segment) for _ in range(ROUNDS * 3)]
    start = statistics.median(r[0] for r in runs)
    say("start: all weights usable from the segment, median", f"{start * 1e3:.2f} ms")
    say("      shorter than the faster copy of a warm cache", f"{min(warm.values()) / start:.0f} x", ">= 3 x")
    say("      waiting for disks", f"{max(r[1] for r in runs):.2f} s", "30 % of a copy's")


def main():
    for tool in ("fio", "fincore"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is needed")
    if os.geteuid() != 0:
        sys.exit("root is needed: page cache, huge pages")
    before, delays = OVERCOMMIT.read_text(), DELAYS.read_text()
    root = pathlib.Path(tempfile.mkdtemp(prefix="preheat-bench-"))
    huge = tempfile.mkdtemp(prefix="preheat-bench-huge-")
    try:
        make_model(root)
        DELAYS.write_text("1\n")            # else the kernel does not count waiting for disks
        OVERCOMMIT.write_text(str(int(GB * 1e9 / 2**21) + 64))
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", huge], check=True)
        measure(root, huge)
    finally:
        subprocess.run(["umount", huge], check=False)
        OVERCOMMIT.write_text(before)
        DELAYS.write_text(delays)
        shutil.rmtree(root)
        os.rmdir(huge)


if __name__ == "__main__":
    main()
