#!/usr/bin/env python3
"""Weights that stay on the device without a process: whether they come back, and what they save.

  check-parked.py --build DIR --model DIR [--keeper] [--module SO] [--segment FILE] [--size WxH] [--frames N] [--steps N]
                  [--rounds N]

Stands in for systemd: holds the listening socket and a descriptor store, starts preheatd with both. With --keeper it has no
store for preheatd but for preheat-keeper, which it starts and starts again as that one's units do. Without --module the CPU
backend parks memory files in the same way, so that everything but the device's own figures is checked anywhere. With it,
nvidia-smi must show the memory and no process while nobody runs, and what it showed before once the store is emptied (nothing
else may use the GPU meanwhile). Exits 1 at the first check that fails.
"""
import argparse
import hashlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from manager import Manager, Store, Systemd, by_number


class Keeper(Store):
    """Before 254: preheatd's store is emptied when it ends, hence preheat-keeper, whose own is kept over a crash. Started by
    a connection to its socket; the directory beside that is there for as long as it runs."""
    STORE, REMOVE, LIST, FETCH = range(1, 5)

    def __init__(self, a, directory, log):
        super().__init__("keeper")
        self.program, self.log, self.pid = a.build + "/daemon/preheat-keeper", log, None
        self.path, self.marker = directory + "/keeper.sock", directory + "/keeper"
        self.env, self.limit = dict(PREHEAT_KEEPER=self.path), a.keeper_kib
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.activate, daemon=True).start()

    def activate(self):
        status = 0
        while True:
            if status == 0:  # ended well, or not begun: the next connection starts it
                for kept in self.kept:
                    os.close(kept[1])
                self.kept = []
                select.select([self.listener], [], [])
            os.makedirs(self.marker, exist_ok=True)
            self.pid = self.spawn([self.program], [("keeper", self.listener.fileno())], self.log)
            _, status = os.waitpid(self.pid, 0)
            self.pid = None
            if status == 0:
                os.rmdir(self.marker)

    def ask(self, op, name="", fds=()):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(self.path)
            socket.send_fds(s, [struct.pack("4sB3x24s", b"PHK1", op, name.encode())], fds)
            data, got, _, _ = socket.recv_fds(s, 8192, 253)
        magic, code, count, n = struct.unpack_from("4siII", data)
        if magic != b"PHK1" or code:
            raise SystemExit(f"preheat-keeper: operation {op}: {code}")
        return [data[16 + 24 * i:40 + 24 * i].rstrip(b"\0").decode() for i in range(n)], got

    def names(self):
        return by_number(self.ask(self.LIST)[0]) if os.path.isdir(self.marker) else []

    def copy(self, name):
        names, fds = self.ask(self.FETCH)
        for i, fd in enumerate(fds):
            if names[i] != name:
                os.close(fd)
        return fds[names.index(name)]

    def drop(self, keep=lambda name: False):
        for name in self.names():
            if not keep(name):
                self.ask(self.REMOVE, name)

    def replace(self, name, fd):
        self.ask(self.STORE, name, [fd])
        os.close(fd)

    def kib(self):
        text = open(f"/proc/{self.pid}/smaps_rollup").read()
        return [int(re.search(rf"^{field}: +(\d+) kB", text, re.M)[1]) for field in ("Rss", "Pss")]

    def check(self, manager, names):
        """What is the keeper's alone; weights are parked and nobody runs."""
        rss, pss = self.kib()
        check(rss <= self.limit, "the keeper is small", f"{rss} KiB resident, {pss} KiB its share")
        killed = self.pid
        os.kill(killed, signal.SIGKILL)
        while self.pid in (killed, None):
            time.sleep(0.01)
        check(self.names() == names, "killed, it is back with all of them")


def check(good, what, found=""):
    print(("ok      " if good else "FAILED  ") + what + (f": {found}" if found != "" else ""), flush=True)
    if not good:
        raise SystemExit(1)


def gpu_mib(device):
    out = subprocess.run(["nvidia-smi", "-i", str(device), "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                         capture_output=True, text=True, check=True).stdout
    return int(out.split()[0])


def gpu_processes(device):
    return subprocess.run(["nvidia-smi", "-i", str(device), "--query-compute-apps=pid,used_memory", "--format=csv,noheader"],
                          capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def gpu_uuids():
    return subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True,
                          check=True).stdout.split()


def write_config(a, directory, park="yes", **more):
    text = f"""[model]
name = bench
path = {a.model}
segment = {a.segment or directory + "/none"}
[backend]
kind = {"cuda" if a.module else "cpu"}
{f"module = {a.module}" if a.module else ""}
device = {a.device}
park_vram = {park}
{"".join(f"{k} = {v}" + chr(10) for k, v in more.items())}
[daemon]
idle_exit = 10s
[jobs]
state_dir = {directory}/state
[media]
program = {a.build}/daemon/preheat-media
"""
    os.makedirs(directory + "/state", exist_ok=True)
    with open(directory + "/preheat.conf", "w") as f:
        f.write(text)
    return directory + "/preheat.conf"


def ask(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{method} {path}: {answer.status} {data[:400]!r}")
    return data


def request(a, manager, start=True):
    """Seconds to the last byte from the connection on; where the weights came from; the file's digest."""
    body = dict(prompt="a red circle moving right on a black background", seed=7, size=a.size, num_frames=a.frames,
                num_inference_steps=a.steps, guidance_scale=a.guidance)
    began = time.perf_counter()
    c = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=600)
    c.connect()
    if start:
        manager.start()
    job = json.loads(ask(c, "POST", "/v1/videos", body))
    while job["status"] in ("queued", "in_progress"):
        job = json.loads(ask(c, "GET", f"/v1/videos/{job['id']}"))
        time.sleep(0.002)
    if job["status"] != "completed":
        raise SystemExit(json.dumps(job["error"]))
    data = ask(c, "GET", f"/v1/videos/{job['id']}/content")
    total = time.perf_counter() - began
    while (health := json.loads(ask(c, "GET", "/healthz")))["phase"] != "serving":  # what comes after the load is done, too
        time.sleep(0.01)
    c.close()
    steps = {s["name"]: round(s["end"] - s["start"], 4) for s in health["detail"]["start"]}
    return dict(total=total, weights=health["detail"]["weights"], digest=hashlib.sha256(data).hexdigest(), steps=steps)


def cut_head(manager):
    head = manager.depot.copy("parked-0")
    data = os.pread(head, 1 << 16, 0)
    os.close(head)
    cut = os.memfd_create("cut")
    os.write(cut, data[:-8])
    manager.replace("parked-0", cut)


def median(values):
    return sorted(values)[len(values) // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--keeper", action="store_true", help="as with systemd before 254")
    parser.add_argument("--keeper-kib", type=int, default=2048, help="what it may have resident")
    parser.add_argument("--module")
    parser.add_argument("--segment")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    for name in ("build", "model", "module", "segment"):
        setattr(a, name, getattr(a, name) and os.path.abspath(getattr(a, name)))
    directory = tempfile.mkdtemp(prefix="preheat-parked-")
    log = open(directory + "/log", "w+")
    depot = (Keeper if a.keeper else Systemd)(a, directory, log)
    manager = Manager(a, depot, write_config(a, directory), log)
    try:
        run(a, directory, manager)
    except BaseException:
        log.seek(0)
        sys.stderr.write(log.read()[-6000:])
        raise
    finally:
        if manager.pid:
            manager.end(signal.SIGKILL)
        depot.drop()
        shutil.rmtree(directory, ignore_errors=True)  # a keeper that ends removes its part


def run(a, directory, manager):
    before = gpu_mib(a.device) if a.module else 0
    cold = request(a, manager)
    check(cold["weights"] in ("cold_disk", "cold_host"), "first start loads", cold["weights"])
    names = manager.names()
    check(len(names) > 2 and names == [f"parked-{i}" for i in range(len(names))], "weights are in the store", len(names))
    hot = request(a, manager, start=False)
    check(hot["digest"] == cold["digest"], "hot: same bytes")
    began = time.perf_counter()
    check(manager.end(None) == 0, "leaves when idle", f"{time.perf_counter() - began:.1f} s")
    check(manager.names() == names, "the store keeps them")
    if a.module:
        held, apps = gpu_mib(a.device), gpu_processes(a.device)
        check(held > before, "the GPU holds the weights", f"{held - before} MiB more than before")
        check(not apps, "no process is on the GPU", apps)
        card = open(directory + "/state/parked-card").read()
        check(card in gpu_uuids(), "the card is noted as the driver calls it", card)
    if a.keeper:
        manager.depot.check(manager, names)

    parked, warm = [], []
    for i in range(a.rounds):
        p = request(a, manager)
        check(p["weights"] == "parked" and p["digest"] == cold["digest"], f"round {i}: parked, same bytes",
              f"{p['total']:.3f} s, {p['steps']}")
        h = request(a, manager, start=False)
        check(h["digest"] == cold["digest"] and manager.names() == names, "  hot, same bytes, same store", f"{h['total']:.3f} s")
        parked.append(p["total"])
        warm.append(h["total"])
        manager.end((signal.SIGTERM, signal.SIGKILL)[i % 2])  # a process that is killed loses nothing that was parked

    cut_head(manager)
    again = request(a, manager)
    check(again["weights"] != "parked" and again["digest"] == cold["digest"], "a head cut short: loaded anew, same bytes")
    check(manager.names() == names, "and parked anew")
    manager.end(signal.SIGTERM)
    manager.drop(lambda n: n != "parked-1")
    again = request(a, manager)
    check(again["weights"] != "parked" and again["digest"] == cold["digest"], "a piece missing: loaded anew, same bytes")
    manager.end(signal.SIGTERM)
    manager.replace("parked-1", manager.depot.copy("parked-0"))
    again = request(a, manager)
    check(again["weights"] != "parked" and again["digest"] == cold["digest"], "a foreign piece: loaded anew, same bytes")
    manager.end(signal.SIGTERM)

    write_config(a, directory, vram_floor="1T")
    again = request(a, manager)
    check(again["weights"] == "parked" and not manager.names(), "below vram_floor: used once more, then not kept")
    manager.end(signal.SIGTERM)
    write_config(a, directory)
    request(a, manager)
    manager.end(signal.SIGTERM)
    write_config(a, directory, park="no")
    again = request(a, manager)
    check(again["weights"] == "parked" and not manager.names(), "park_vram = no: used once more, then not kept")
    manager.end(signal.SIGTERM)
    again = request(a, manager)
    check(again["weights"] != "parked" and not manager.names(), "and not parked again")
    manager.end(signal.SIGTERM)
    write_config(a, directory)
    request(a, manager)
    manager.end(signal.SIGTERM)
    check(manager.names() == names, "parked once more")
    manager.drop()
    if a.keeper:
        began = time.perf_counter()
        while os.path.isdir(manager.depot.marker) and time.perf_counter() - began < 15:
            time.sleep(0.05)
        check(not os.path.isdir(manager.depot.marker), "the keeper ends when it holds nothing",
              f"{time.perf_counter() - began:.1f} s")
    if a.module:
        deadline = time.monotonic() + 5
        while gpu_mib(a.device) > before and time.monotonic() < deadline:
            time.sleep(0.1)
        check(gpu_mib(a.device) <= before, "released: the GPU is as before", f"{gpu_mib(a.device)} MiB, before {before} MiB")
    print(json.dumps(dict(
        keeper=a.keeper, size=a.size, frames=a.frames, steps=a.steps, rounds=a.rounds, pieces=len(names) - 1, segment=bool(a.segment),
        cold_total_s=round(cold["total"], 3), parked_total_s=round(median(parked), 3), parked_worst_s=round(max(parked), 3),
        hot_total_s=round(median(warm), 3), penalty_s=round(median(parked) - median(warm), 3))))


main()
