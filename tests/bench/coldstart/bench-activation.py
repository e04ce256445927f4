#!/usr/bin/env python3
"""What systemd itself adds to a cold request: a booted Debian with the package installed, asked over its unix socket while
no daemon runs.

  bench-activation.py ROOT DIST [--rounds N] [--module-loaded]

ROOT and DIST are what tests/system/make-packages made. Prints, in milliseconds from the client's connect(), median and
worst: until systemd has forked (its jobs before the service), until the first byte of the answer to GET /v1/videos (sandbox,
exec, sockets taken over; weights may still be loading), until READY=1, which the tiny model's load is part of; and a hot
answer. --module-loaded: as on a machine whose NVIDIA driver is loaded, else as without one, where each start tries modprobe.
Needs root and systemd-nspawn."""
import argparse
import pathlib
import shutil
import socket
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "system"))
from client import TCP, serving
from machine import Machine
from package import drop_in, package_of, stop

UNIT = "preheatd.service"
STAMPS = {"forked": "ExecMainStartTimestampMonotonic", "ready": "ActiveEnterTimestampMonotonic"}


def ask(m):
    """When the client connected and when it had the first byte, on the clock of systemd's stamps."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        began = time.monotonic()
        s.connect(f"/proc/{m.leader}/root/run/preheat/api.sock")
        s.sendall(b"GET /v1/videos HTTP/1.1\r\nHost: preheat\r\nConnection: close\r\n\r\n")
        answer = s.recv(1 << 16)
        ended = time.monotonic()
    if not answer.startswith(b"HTTP/1.1 200"):
        sys.exit(f"bench-activation: the daemon answered {answer[:80]}")
    return began, ended


def one_round(m):
    stop(m)
    time.sleep(0.3)
    began, ended = ask(m)
    serving(m, TCP)
    times = {name: int(m.show(UNIT, stamp)) / 1e6 - began for name, stamp in STAMPS.items()}
    hot_began, hot_ended = ask(m)
    return {"forked": times["forked"], "answered": ended - began, "ready": times["ready"], "hot": hot_ended - hot_began}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("dist", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--module-loaded", action="store_true")
    options = parser.parse_args()
    logs = pathlib.Path(tempfile.mkdtemp(prefix="bench-activation-"))
    m = Machine(options.root, logs / "console", lends_huge_pages=True)
    try:
        shutil.copy(package_of(options.dist), m.tree / "root/preheat.deb")
        m.boot()
        m.run("apt-get", "install", "-qy", "/root/preheat.deb", timeout=120)
        drop_in(m, "[Unit]\nStartLimitIntervalSec=0\n")
        if options.module_loaded:  # a container sees no modules
            m.run("sh", "-c", "mount -o remount,rw /sys && mkdir -p /sys/module/nvidia_uvm")
        one_round(m)
        rounds = [one_round(m) for _ in range(options.rounds)]
        print(m.run("systemctl", "--version").stdout.splitlines()[0])
    finally:
        m.close()
        shutil.rmtree(logs)
    for name in rounds[0]:
        values = [1e3 * r[name] for r in rounds]
        print(f"{name:8} median {statistics.median(values):6.1f} ms, worst {max(values):6.1f} ms")


main()
