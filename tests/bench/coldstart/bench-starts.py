#!/usr/bin/env python3
"""Starts of the real daemon under load, each with a fault of its own: how many fail, and whether a request is lost.

  bench-starts.py --build DIR --model DIR [--module SO] [--starts N] [--protections on|off|both] [--memory MIB] [--seed N]

Load: processes that take the CPUs, one that writes and syncs to the disk, one that fills and rereads memory, and a second daemon
that starts, serves and stops all the time with the same model and device. Two requests a start: one has connected before the
daemon's first instruction, one comes while it starts. Faults, drawn in equal numbers in a random order:

  none            nothing but the load
  no_context      the device has no memory for a context, once
  no_memory       the first piece of device memory is refused, once
  no_memory_twice the first two
  no_lock         no page can be registered with the driver
  chunk_late      a chunk of the segment is published only a while after the daemon has begun to wait for it
  segment_damaged the segment's header is not one
  media_missing   the encoder's program is not there
  state_taken     another process has the state directory a little longer
  killed          kill -9 during the start; started again, as systemd would

Faults of the device are put between the daemon and its engine by tests/daemon/faulty-backend.so; with --module that is the CUDA
module. `off` runs the same with start_retries = 0, start_fallback = no and resume = fail. Prints a line a mode as JSON and, with
protections on, exits 1 when more than 1 % of the starts failed, a request was lost, or a failure was not one journal line.

A start has failed when the daemon refuses to serve or ends by itself. A request is lost when it gets no answer, or its job is
accepted and then neither done nor failed with a reason.
"""
import argparse
import collections
import fcntl
import http.client
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon"))
from daemon import Daemon, Place

F_OFD_SETLK = 37
PATIENCE = 60  # of a client
STATES_AT, WORD_EMPTY, WORD_READY = 4096, 0, 0xa53cf00f
BODY = {"prompt": "a red circle", "num_inference_steps": 1, "num_frames": 1, "size": "64x64"}
PROTECTIONS = {"on": {}, "off": {"daemon": {"start_retries": 0, "start_fallback": "no"}, "jobs": {"resume": "fail"}}}


class Fault:
    """What is wrong with one start: environment and configuration of the process, what happens beside it, and what the
    journal must say of it ("": nothing more than without the fault), in how many lines: one for each thing that failed."""

    def __init__(self, line="", device="", sections=None, beside=None, lines=(1,)):
        self.line, self.device, self.sections, self.beside, self.lines = line, device, sections or {}, beside, lines


def write_word(segment, chunk, word):
    os.pwrite(segment, struct.pack("<I", word), STATES_AT + 4 * chunk)


def chunk_late(bench, daemon):
    fd = os.open(bench.segment, os.O_RDWR)
    fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))  # the writer is alive
    chunk = bench.random.randrange(struct.unpack("<I", os.pread(fd, 4, 12))[0])
    write_word(fd, chunk, WORD_EMPTY)

    def publish():
        time.sleep(0.5)
        write_word(fd, chunk, WORD_READY)
        os.close(fd)
    return publish


def state_taken(bench, daemon):
    fd = os.open(bench.place.state / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def let_go():
        time.sleep(0.5)
        os.close(fd)
    return let_go


def killed(bench, daemon):
    delay = bench.random.random() * 0.3

    def kill():
        time.sleep(delay)
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
    return kill


def faults(shm):
    damaged = shm / "damaged-segment"
    damaged.write_bytes(bytes(range(256)) * 4096 * 4)
    return {
        "none": Fault(),
        "no_context": Fault("no device memory for a context", "open=1"),
        "no_memory": Fault("no device memory for", "memory=1"),
        "no_memory_twice": Fault("no device memory for", "memory=2", lines=(1, 2)),
        "no_lock": Fault("cannot be registered", "pin=100000"),
        "chunk_late": Fault(beside=chunk_late),
        "segment_damaged": Fault("damaged-segment", sections={"model": {"segment": damaged}}),
        "media_missing": Fault("/nonexistent/preheat-media", sections={"media": {"program": "/nonexistent/preheat-media"}}, lines=(2,)),
        "state_taken": Fault("uses the state directory", beside=state_taken),
        "killed": Fault(beside=killed),
    }


class Pressure:
    def __init__(self, place, memory_mib):
        spin = [sys.executable, "-c", "while True: pass"]
        write = ["sh", "-c", f"while :; do dd if=/dev/zero of='{place.path}/load' bs=1M count=16 conv=fsync; done"]
        fill = [sys.executable, "-c", f"b = bytearray({memory_mib} << 20)\nwhile True:\n for i in range(0, len(b), 4096): b[i] ^= 1"]
        self.commands = [spin] * len(os.sched_getaffinity(0)) + [write, fill]

    def __enter__(self):
        self.processes = [subprocess.Popen(c, stderr=subprocess.DEVNULL, start_new_session=True) for c in self.commands]

    def __exit__(self, *_):
        for p in self.processes:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()


class Contender(threading.Thread):
    """The second daemon."""

    def __init__(self, a, sections):
        super().__init__()
        self.a, self.sections, self.ended, self.starts, self.failed = a, sections, threading.Event(), 0, []

    def run(self):
        with Place(self.a.model, self.a.media) as place:
            while not self.ended.is_set():
                with Daemon(self.a.preheatd, place, **self.sections) as d:
                    status, video = d.ask("POST", "/v1/videos", BODY)
                    self.starts += 1
                    if status != 200 or d.wait(video)["status"] != "completed":
                        self.failed.append((status, video))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


class Client(threading.Thread):
    """One request until its end. A connection that the daemon's death cut is tried again, as clients do."""

    def __init__(self, daemon, delay):
        super().__init__()
        self.daemon_, self.delay, self.outcome, self.detail = daemon, delay, "lost", "no answer"
        self.start()

    def ask(self, *arguments):
        while time.monotonic() < self.end:
            try:
                return self.daemon_.ask(*arguments)
            except (OSError, http.client.HTTPException) as e:
                self.detail = repr(e)
                time.sleep(0.1)
        raise TimeoutError(self.detail)

    def run(self):
        time.sleep(self.delay)
        began = time.monotonic()
        self.end = began + PATIENCE
        try:
            status, self.detail = self.ask("POST", "/v1/videos", BODY)
            self.seconds = time.monotonic() - began
            if status != 200:
                self.outcome = "refused"
                return
            while time.monotonic() < self.end and self.outcome == "lost":
                self.detail = self.ask("GET", f"/v1/videos/{self.detail['id']}")[1]
                if self.detail.get("status") in ("completed", "failed"):
                    self.outcome = self.detail["status"]
                time.sleep(0.02)
        except TimeoutError:
            pass


class Bench:
    def __init__(self, a, mode, place):
        self.a, self.mode, self.place, self.random = a, mode, place, random.Random(a.seed)
        name = f"starts-{os.getpid()}"
        self.shm = place.path / "shm"  # a file system in memory, ours alone where we may mount one
        self.shm.mkdir()
        self.mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.shm], stderr=subprocess.DEVNULL).returncode == 0
        self.shm = self.shm if self.mounted else pathlib.Path("/dev/shm")
        backend = {"kind": "cuda", "module": a.faulty, "park_vram": "yes"}  # parked: the CPU's engine takes memory, too
        self.sections = {"model": {"name": name, "segment": self.shm / name}, "backend": backend}
        self.faults = faults(self.shm)
        self.count = collections.Counter()
        self.by_fault = collections.defaultdict(collections.Counter)
        self.waits, self.notes = [], []

    def merged(self, *more):
        sections = {section: dict(keys) for section, keys in self.sections.items()}
        for extra in more:
            for section, keys in extra.items():
                sections.setdefault(section, {}).update(keys)
        return sections

    def warm(self):
        self.warmup = [self.a.warmup, "--config", self.place.configure(self.sections)]
        subprocess.run(self.warmup, check=True, capture_output=True)
        name = self.sections["model"]["name"]
        places = (self.sections["model"]["segment"], f"/dev/shm/preheat-{name}")  # with pages to spare, or without
        self.segment = next(p for p in places if os.path.exists(p))

    def cool(self):
        subprocess.run([*self.warmup, "--evict"], check=True, capture_output=True)
        (self.shm / "damaged-segment").unlink()
        if self.mounted:
            subprocess.run(["umount", self.shm], check=True)

    def note(self, fault, text):
        self.notes.append(f"{fault}: {text}")

    def explained(self, name, said):
        """How many lines of the journal tell of the fault."""
        line = self.faults[name].line
        return sum(line in text and not text.startswith("<7>") for text in said.splitlines()) if line else 1

    def one(self, name):
        fault = self.faults[name]
        d = Daemon(self.a.preheatd, self.place, **self.merged(PROTECTIONS[self.mode], fault.sections))
        d.environment["PREHEAT_TEST_FAULTS"] = fault.device
        beside = fault.beside(self, d) if fault.beside else None
        clients = [Client(d, 0)]
        time.sleep(0.02)  # the first client waits in the socket
        d.start()
        clients.append(Client(d, self.random.random() * 0.2))
        if beside:
            beside()
        for c in clients:
            c.join()
            self.by_fault[name][c.outcome] += 1
            self.waits += [c.seconds] if c.outcome == "completed" else []
        ended = d.process.poll()
        refused = False
        try:
            phase = d.ask("GET", "/healthz")[1]
            end = time.monotonic() + 60
            while phase["phase"] in ("starting", "loading") and time.monotonic() < end:
                time.sleep(0.02)
                phase = d.ask("GET", "/healthz")[1]
            refused = phase["phase"] == "refused"
        except (OSError, http.client.HTTPException):
            ended = d.process.poll() if ended is None else ended
        started = ended is None and not refused
        if ended is None:
            d.process.send_signal(signal.SIGKILL if self.random.random() < 0.1 else signal.SIGTERM)
            d.process.wait(60)
        self.by_fault[name]["starts"] += 1
        self.by_fault[name]["failed starts"] += not started
        n = self.explained(name, d.said())
        for c in clients:
            if c.outcome in ("lost", "failed", "refused"):
                error = c.detail.get("error") if isinstance(c.detail, dict) else None
                self.note(name, f"{c.outcome}: {error['message'] if error else c.detail}")
        if n not in fault.lines:
            self.by_fault[name]["unexplained"] += 1
            self.note(name, f"{n} journal lines say {fault.line!r}, wanted are {fault.lines}:\n{d.said()[-1500:]}")
        d.tcp.close()
        d.unix.close()

    def run(self):
        names = list(self.faults) * (self.a.starts // len(self.faults) + 1)
        names = names[:self.a.starts]
        self.random.shuffle(names)
        self.warm()
        try:
            with Pressure(self.place, self.a.memory), Contender(self.a, {"backend": self.sections["backend"]}) as self.contender:
                for name in names:
                    self.one(name)
        finally:
            self.cool()
        for counts in self.by_fault.values():
            self.count.update(counts)

    def report(self):
        waits = sorted(self.waits) or [0]
        c = self.count
        print(json.dumps(dict(
            protections=self.mode, starts=c["starts"], failed_starts=c["failed starts"], completed=c["completed"], refused=c["refused"],
            failed_with_reason=c["failed"], lost=c["lost"], unexplained=c["unexplained"],
            answered_s=dict(median=round(waits[len(waits) // 2], 3), worst=round(waits[-1], 3)),
            second_daemon=dict(starts=self.contender.starts, failed=len(self.contender.failed)),
            by_fault={k: dict(v) for k, v in sorted(self.by_fault.items())})), flush=True)
        for note in collections.Counter(self.notes).most_common(12 if self.mode == "on" else 6):
            print(f"  {note[1]} x {note[0]}", file=sys.stderr)
        return self.mode == "off" or not (c["failed starts"] * 100 > c["starts"] or c["lost"] or c["unexplained"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--module")
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--protections", choices=("on", "off", "both"), default="both")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that the load fills")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    build = os.path.abspath(a.build)
    a.preheatd, a.media, a.warmup = (f"{build}/daemon/{p}" for p in ("preheatd", "preheat-media", "preheat-warmup"))
    a.faulty, a.model = f"{build}/tests/daemon/faulty-backend.so", os.path.abspath(a.model)
    os.environ.pop("PREHEAT_TEST_BACKEND", None)
    if a.module:
        os.environ["PREHEAT_TEST_BACKEND"] = os.path.abspath(a.module)
    good = True
    for mode in ("on", "off") if a.protections == "both" else (a.protections,):
        with Place(a.model, a.media) as place:
            bench = Bench(a, mode, place)
            bench.run()
            good &= bench.report()
    sys.exit(not good)


main()
