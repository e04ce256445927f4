#!/usr/bin/env python3
"""bench-source.py BUILDDIR [GB]: a model from a web server on the loopback, against curl of the same files in the same run.

Makes a model of random weights (default 4 GB) in $TMPDIR, serves it from the page cache with sendfile(), and measures
three times each: curl, eight files' parts at a time to /dev/null; preheat-warmup with mode = direct into shared memory,
verified; preheat-warmup --fetch to $TMPDIR."""
import http.server
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import bench

ROUNDS, PARALLEL = 3, 8


class Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root = pathlib.Path("/nonexistent")

    def do_GET(self):
        path = self.root / self.path.lstrip("/")
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        at, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - at))
        if asked:
            self.send_header("Content-Range", f"bytes {at}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.flush()
        with open(path, "rb") as f:
            while at < end:
                at += os.sendfile(self.connection.fileno(), f.fileno(), at, end - at)

    def log_message(self, *_):
        pass


def curl(url, files, root):
    """Seconds for all bytes, as PARALLEL ranges of each file in turn."""
    start = time.monotonic()
    for f in files:
        size = (root / f).stat().st_size
        step = -(-size // PARALLEL)
        jobs = [subprocess.Popen(["curl", "-sf", "-o", "/dev/null", "-r", f"{at}-{min(at + step, size) - 1}", f"{url}/{f}"])
                for at in range(0, size, step)]
        if any(job.wait() for job in jobs):
            sys.exit("curl failed")
    return time.monotonic() - start


def warmup(config, *options):
    """Seconds of the filling where there is one, else of all; largest resident MiB."""
    start = time.monotonic()
    p = subprocess.Popen([bench.WARMUP, "--config", config, *options], stderr=subprocess.PIPE, text=True)
    log = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(log)
    wall = time.monotonic() - start
    filled = re.search(r"after ([\d.]+) s:", log)
    return float(filled[1]) if filled else wall, usage.ru_maxrss / 1024


def figures(seconds, total):
    return " ".join(f"{total / s / 1e9:.2f}" for s in seconds)


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="preheat-bench-"))
    segment = f"/dev/shm/preheat-bench-{os.getpid()}"
    try:
        Files.root = root = work / "site"
        root.mkdir()
        bench.make_model(root)
        files = [f"{p.relative_to(root)}" for p in sorted(root.glob("*/*.safetensors"))]
        total = sum((root / f).stat().st_size for f in files)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        def configure(model, mode="cache"):
            path = work / f"{mode}.conf"
            path.write_text(f"[model]\nname = bench\nsegment = {segment}\n{model}\n[jobs]\nstate_dir = {work}/state\n"
                            f"[source]\nmode = {mode}\n[warmup]\nchunk_size = 64M\n")
            return path

        def forget():
            if os.path.exists(segment):
                os.unlink(segment)

        warmup(configure(f"path = {root}"))  # its manifest
        shutil.move(work / "state/models/bench.manifest", root / "preheat.manifest")
        forget()
        print(bench.machine())
        print(f"model of {total / 1e9:.2f} GB, {ROUNDS} rounds, GB/s\n")
        subprocess.run(["cat", *files], cwd=root, stdout=subprocess.DEVNULL, check=True)  # into the page cache
        plain, direct, fetch = [], [], []
        for _ in range(ROUNDS):
            plain.append(curl(url, files, root))
            direct.append(warmup(configure(f"source = {url}", "direct")))
            forget()
            fetch.append(warmup(configure(f"source = {url}"), "--fetch"))
            shutil.rmtree(work / "state")
        bench.say(f"curl, {PARALLEL} at a time, to /dev/null", figures(plain, total))
        bench.say("straight into shared memory, verified", figures([s for s, _ in direct], total))
        bench.say("      resident besides the segment",
                  f"{max(r for _, r in direct) - total / 2**20:.0f} MiB", "<= 64 MiB")
        bench.say("to the disk, verified, synced", figures([s for s, _ in fetch], total))
        bench.say("      resident", f"{max(r for _, r in fetch):.0f} MiB", "<= 64 MiB")
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if os.path.exists(segment):
            os.unlink(segment)


main()
