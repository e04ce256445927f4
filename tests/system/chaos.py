#!/usr/bin/env python3
"""chaos.py ROOT BUILDDIR SECONDS [SEED]: random things done to a booted preheat, and what must hold after each burst.

Clients ask, cancel, vanish and linger; an operator stops, starts, reloads and kills units, breaks the configuration,
fills the disk and withholds weights. In the end all of that is taken back, and then both sockets must answer, each job
that was accepted must have ended as what was done to it allows, and nothing may be left behind. The same seed does the
same things; when which of them meet is the machine's affair. A short run is a case of test-boot.py."""
import base64
import collections
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import random
import re
import socket
import struct
import sys
import threading
import time
import zlib

import boot_start
from client import PROMPT, SMALL
from clients import Clients
from installed import install
from machine import Machine, wait_for

SEED, BURSTS, STEPS = 1127, 3, 25  # of the case
STATE, STATE_MIB = "/var/lib/preheat", 24
UNITS = "/run/systemd/system"
CONF = "/etc/preheat/preheat.conf.d/50-test.conf"
BROKEN = "/etc/preheat/preheat.conf.d/60-broken.conf"
DAEMON, WARM_UP, RESERVE, KEEPER = (f"preheat{name}.service" for name in ("d", "-warmup", "-reserve", "-keeper"))
SOCKETS = ("preheatd.socket", "preheatd-api.socket")
REFUSING_SEC = 20  # preheatd.c's REFUSED_USEC
ATTEMPTS = 3  # JOB_MAX_ATTEMPTS
SLOW_WARM_UP = "chunk_size = 2M\nread_size = 4K\nqueue_depth = 1\nthreads = 1\n"
# More often than any of this would be done: no limit of starts, and no pause before the next.
DROP_INS = {
    DAEMON: "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n"
            "Environment='PREHEAT_TEST_FAULTS={faults}'\n",
    WARM_UP: "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=300ms\n",
    KEEPER: "[Unit]\nStartLimitIntervalSec=0\n",
}
HEAD = "GET /v1/videos HTTP/1.1\r\nHost: localhost\r\n"
POST = "POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
ALARMING = re.compile(r"assert|sanitizer|runtime error|\bBUG\b|dumped|status=\d+/(ABRT|SEGV|BUS)|timed out|corrupt|"
                      r"double free", re.I)
HALF_WRITTEN = re.compile(r"\.tmp$|\.part$")


def picture():
    """A PNG of one pixel, as a data URL."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 2, 0, 0, 0)) +
           chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b""))
    return "data:image/png;base64," + base64.b64encode(png).decode()


class Job:
    """One that was accepted."""

    def __init__(self):
        self.since, self.cancelled, self.deleting, self.deleted = time.monotonic(), False, False, False


class Chaos:
    def __init__(self, m, seed, log, reserve="none"):
        self.m, self.random, self.seed, self.reserve = m, random.Random(seed), seed, reserve
        self.root = f"/proc/{m.leader}/root"
        self.log, self.clients, self.lock = open(log, "w"), Clients(m), threading.Lock()
        self.has_keeper = m.run("systemctl", "cat", KEEPER, check=False).returncode == 0
        self.has_faulty = os.path.exists(self.root + boot_start.FAULTY)
        self.done = collections.defaultdict(list)  # kind of thing: when
        self.jobs, self.pending, self.kept = {}, [], []
        self.withheld, self.full, self.broken, self.parks = None, False, False, False
        self.descriptors, self.faults, self.looked = {}, [], time.time()

    def __enter__(self):
        self.prepare()
        return self

    def __exit__(self, *_):
        self.take_back()
        self.clients.close()
        self.systemctl("stop", DAEMON, WARM_UP, RESERVE)
        self.m.run("umount", STATE, check=False)
        self.m.run("rm", "-f", CONF, BROKEN)
        for unit in DROP_INS:
            self.m.run("rm", f"{UNITS}/{unit}.d/chaos.conf")
            self.m.run("rmdir", "--ignore-fail-on-non-empty", f"{UNITS}/{unit}.d")
        self.systemctl("daemon-reload")
        self.systemctl("start", WARM_UP)
        self.log.close()

    def note(self, text):
        """In the log and, for who compares, in the journal."""
        with self.lock:
            print(f"{datetime.datetime.now():%H:%M:%S.%f} {text}", file=self.log, flush=True)
        entry = f"MESSAGE={text}\nSYSLOG_IDENTIFIER=chaos\nPRIORITY=6\n"
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(entry.encode(), f"{self.root}/run/systemd/journal/socket")

    def found(self, text):
        self.note(f"FAULT {text}")
        self.faults.append(text)

    def did(self, *kinds):
        for kind in kinds:
            self.done[kind].append(time.monotonic())

    def since(self, began, *kinds):
        """Whether one of them was done since then, or shortly before."""
        return any(t > began - 0.5 for kind in kinds for t in self.done[kind])

    def systemctl(self, *arguments):
        self.note("systemctl " + " ".join(arguments))
        done = self.m.run("systemctl", *arguments, check=False, timeout=200)
        if done.returncode:
            self.note(f"  {done.returncode}: {done.stderr.strip()}")
        return done.returncode == 0

    def signal(self, name, unit=DAEMON):
        self.systemctl("kill", "-s", name, "--kill-who=main", unit)

    def state(self, unit):
        return self.m.show(unit, "ActiveState")

    # What clients do.

    def over(self):
        return self.random.choice(("tcp", "unix"))

    def submit(self, function, *arguments):
        self.pending.append(self.clients.submit(function, *arguments))

    def request(self, over, method, path, body=None):
        """(status, bytes) of an answer that was judged."""
        began, status, data, why = time.monotonic(), None, b"", ""
        try:
            status, data = self.clients.call(over, method, path, body)
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        text = why or (data[:200].decode(errors="replace") if status >= 400 else "")
        line = f"{method} {path} over {over}: {status} {text} after {took:.2f} s"
        self.note("  " + line)
        excuse = self.excuse_failure(began, why) if why else self.excuse_refusal(began, status, text)
        if not excuse or (took > 12 and not self.since(began, "withhold")):
            self.found(line)
        return status, data

    def excuse_failure(self, began, why):
        """Nobody listens only where somebody closed the sockets, an answer is cut off only by an end of the daemon."""
        if "refused" in why or "No such file" in why:
            return self.since(began - 1, "sockets")
        return "timed out" not in why and self.since(began, "kill", "stop", "sockets")

    def excuse_refusal(self, began, status, text):
        if status < 500:
            return True
        if "being opened" in text:
            return self.since(began, "stop", "kill", "sockets")
        mended = began - REFUSING_SEC if "refused" in text or "cannot be kept" in text else began
        return status == 503 and (self.full or self.broken or self.since(mended, "fill", "break", "fault"))

    def do_list(self):
        self.submit(self.request, self.over(), "GET", "/v1/videos?limit=5")

    def do_look(self):
        self.submit(self.request, self.over(), "GET", self.random.choice(("/healthz", "/metrics")))

    def do_volley(self):
        for _ in range(self.random.randrange(5, 15)):
            self.do_list()

    def create(self, over, fields):
        status, data = self.request(over, "POST", "/v1/videos", {"prompt": PROMPT, **SMALL, **fields})
        if status == 200:
            video = json.loads(data)
            with self.lock:
                self.jobs.update({job: Job() for job in video.get("ids", [video["id"]])})
            self.note(f"  accepted {video.get('ids', video['id'])}")

    def do_small_job(self):
        self.submit(self.create, self.over(), {"n": self.random.choice((1, 1, 3))})

    def do_long_job(self):
        self.submit(self.create, self.over(), {"num_inference_steps": self.random.randrange(20, 101)})

    def do_job_with_picture(self):
        self.submit(self.create, self.over(), {"input_reference": {"image_url": picture()}})

    def some_job(self):
        with self.lock:
            return self.random.choice(sorted(self.jobs)) if self.jobs else None

    def end(self, over, name, delete):
        job = self.jobs[name]
        job.cancelled, job.deleting = True, job.deleting or delete
        path = f"/v1/videos/{name}"
        status, _ = self.request(over, *(("DELETE", path) if delete else ("POST", path + "/cancel")))
        job.deleted = job.deleted or (delete and status == 200)

    def do_end(self):
        if name := self.some_job():
            self.submit(self.end, self.over(), name, self.random.random() < 0.5)

    def do_get(self):
        if name := self.some_job():
            self.submit(self.request, self.over(), "GET", f"/v1/videos/{name}")

    def do_vanish(self):
        body = json.dumps({"prompt": PROMPT, **SMALL})
        head, content = POST.format(len(body)), HEAD.replace("videos", f"videos/{self.some_job()}/content")
        text = self.random.choice((HEAD, HEAD + "\r\n", head, head + body[:20], head + body, content + "\r\n"))
        self.submit(self.clients.vanish, self.over(), text.encode(), self.random.random() < 0.5)

    def do_linger(self):
        text = self.random.choice(("", HEAD[:9], HEAD))
        self.submit(self.clients.linger, self.over(), text.encode(), self.kept)

    # What an operator does, or the machine.

    def do_daemon(self):
        verb = self.random.choice(("stop", "stop", "start", "restart", "restart", "try-restart", "reload"))
        wait = [] if self.random.random() < 0.5 and not self.withheld else ["--no-block"]
        began = time.monotonic()
        ends = [] if verb == "start" else ["stop"]  # a reload may be what a refusing daemon leaves for
        self.did(*ends)
        self.systemctl(verb, *wait, DAEMON)
        self.did(*ends)
        if (took := time.monotonic() - began) > 40:
            self.found(f"systemctl {verb} {DAEMON} took {took:.1f} s")

    def do_term(self):
        self.did("stop")
        self.signal("TERM")

    def do_hup(self):
        self.did("stop")  # before the program is there to hold it, this ends it
        self.signal("HUP")

    def do_kill(self):
        self.did("kill")
        self.signal("KILL")

    def do_freeze(self):
        self.signal("STOP")
        time.sleep(self.random.uniform(0, 0.5))
        self.signal("CONT")

    def do_encoder(self):
        signal = self.random.choice(("TERM", "KILL", "STOP"))
        pids = self.m.run("pgrep", "-x", "preheat-media", check=False).stdout.split()
        if pids:
            self.did("encoder")
            self.note(f"kill -{signal} the encoder")
            self.m.run("kill", f"-{signal}", *pids, check=False)
            time.sleep(0.2)
            self.m.run("kill", "-CONT", *pids, check=False)

    def do_warm_up(self):
        verb = self.random.choice(("stop", "start", "restart", "try-restart", "reload"))
        after, signal = self.random.uniform(0, 0.1), self.random.choice((None, "KILL", "TERM"))
        self.did("warm up")
        self.systemctl(verb, "--no-block", WARM_UP)
        if signal:
            time.sleep(after)
            self.signal(signal, WARM_UP)

    def do_reserve(self):
        self.systemctl(self.random.choice(("stop", "start", "restart", "reload")), "--no-block", RESERVE)

    def do_sockets(self):
        verb, units = self.random.choice(("stop", "restart")), self.random.choice((SOCKETS, SOCKETS[:1], SOCKETS[1:]))
        self.did("sockets", "stop")
        self.systemctl(verb, *units)
        time.sleep(self.random.uniform(0, 0.3))
        self.open_sockets()

    def open_sockets(self):
        """systemd opens none while the service runs or is on its way out."""
        def opened():
            if all(self.state(unit) == "active" for unit in SOCKETS):
                return True
            self.systemctl("stop", *SOCKETS)
            self.systemctl("stop", DAEMON)
            return self.systemctl("start", *SOCKETS)
        wait_for("the sockets", 30, opened)
        self.did("sockets", "stop")

    def do_systemd(self):
        self.systemctl(self.random.choice(("daemon-reload", "daemon-reload", "daemon-reexec")))

    def do_release(self):
        done = self.m.run("preheatctl", "release", *self.random.choice(((), ("--idle",))), check=False)
        self.note(f"preheatctl release: {done.returncode} {done.stdout.strip()} {done.stderr.strip()}")

    def do_keeper(self):
        what = self.random.choice((("kill", "-s", "KILL"), ("kill", "-s", "TERM"), ("restart",), ("stop",)))
        if self.has_keeper:
            self.systemctl(*what, KEEPER)

    def do_fill(self):
        if self.full:
            self.free()
            return
        self.full = True
        self.did("fill")
        self.note("the state directory is full")
        with contextlib.suppress(OSError), open(f"{self.root}{STATE}/.fill", "wb", 0) as f:
            for piece in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while f.write(bytes(piece)):
                        pass

    def free(self):
        self.note("the state directory has room")
        os.unlink(f"{self.root}{STATE}/.fill")
        self.full = False
        self.did("fill")

    def do_break(self):
        self.did("break")
        if self.broken:
            self.mend()
            return
        self.broken = True
        self.note("the configuration is broken")
        self.m.write(BROKEN, "[daemon]\nidle_exti = 1s\n")

    def mend(self):
        self.note("the configuration is mended")
        self.m.run("rm", BROKEN)
        self.broken = False
        self.did("break", "stop")
        self.systemctl(self.random.choice(("reload", "try-restart")), "--no-block", DAEMON)

    def do_withhold(self):
        self.did("withhold")
        if self.withheld:
            self.let_go()
            return
        paths = [f"{self.root}/run/preheat/{d}/tiny-wan" for d in ("weights", "shared")]
        with contextlib.suppress(OSError, StopIteration), contextlib.ExitStack() as stack:
            stack.enter_context(boot_start.withheld(next(p for p in paths if os.path.exists(p))))
            self.withheld = stack.pop_all()
            self.note("the segment is withheld")

    def let_go(self):
        self.note("the segment is let go")
        self.withheld.close()
        self.withheld = None
        self.did("withhold")

    HOW_OFTEN = {"list": 10, "look": 8, "volley": 2, "small_job": 10, "long_job": 4, "job_with_picture": 4, "end": 8,
                 "get": 5, "vanish": 5, "linger": 2, "daemon": 8, "term": 6, "hup": 4, "kill": 5, "freeze": 3,
                 "encoder": 3, "warm_up": 5, "reserve": 2, "sockets": 2, "systemd": 2, "release": 3, "keeper": 3,
                 "fill": 3, "break": 2, "withhold": 3}

    # Bursts, and what must hold after them.

    def prepare(self):
        self.systemctl("stop", *SOCKETS, DAEMON, WARM_UP)
        self.m.run("mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m,uid=preheat,gid=preheat,mode=0750", "tmpfs", STATE)
        self.m.run("systemd-tmpfiles", "--create", "--prefix", STATE)
        for unit, text in DROP_INS.items():
            self.m.write(f"{UNITS}/{unit}.d/chaos.conf", text.format(faults=""))
        self.m.write(CONF, f"[warmup]\nreserve = {self.reserve}\n")
        self.systemctl("daemon-reload")
        self.systemctl("start", *SOCKETS)
        self.systemctl("start", WARM_UP)

    def set_scene(self):
        """How the daemons of the next burst are configured."""
        self.parks = self.random.random() < 0.5
        faults, conf = "", f"[warmup]\nreserve = {self.reserve}\n"
        if self.random.random() < 0.3:
            conf += SLOW_WARM_UP
        conf += f"[daemon]\nidle_exit = 10s\ndrain_timeout = {self.random.choice((1, 5, 20))}s\n"
        if self.parks:
            conf += "[backend]\npark_vram = yes\n"
            faults = self.random.choice(("", "open=1", "memory=1", "pin=1", "hang=300"))
        if self.parks and self.has_faulty:
            conf += f"kind = cuda\nmodule = {boot_start.FAULTY}\n"
            self.did("fault")
        self.note(f"parks: {self.parks}, faults: '{faults}'")
        self.m.write(CONF, conf)
        self.m.write(f"{UNITS}/{DAEMON}.d/chaos.conf", DROP_INS[DAEMON].format(faults=faults))
        self.systemctl("daemon-reload")

    def burst(self, n):
        self.began = time.monotonic()
        self.set_scene()
        for _ in range(n):
            kind, = self.random.choices(list(self.HOW_OFTEN), list(self.HOW_OFTEN.values()))
            getattr(self, f"do_{kind}")()
            time.sleep(self.random.choice((0, self.random.uniform(0, 0.3))))
        self.take_back()
        self.check_answers()
        self.check_jobs()
        self.check_units()
        self.check_memory()
        self.check_leftovers()
        self.check_journal()

    def take_back(self):
        self.note("taking back what was done")
        if self.withheld:
            self.let_go()
        if self.full:
            self.free()
        if self.broken:
            self.mend()
        while self.kept:
            self.kept.pop().close()

    def check_answers(self):
        for over in ("tcp", "unix"):
            began = time.monotonic()
            self.clients.submit(self.request, over, "GET", "/healthz").result()
            if (took := time.monotonic() - began) > 8:
                self.found(f"a new connection over {over} waited {took:.1f} s")
        for p in self.pending:
            p.result(90)
        self.pending.clear()
        try:
            wait_for("serving", REFUSING_SEC + 10, lambda: self.health().get("phase") == "serving", 0.5)
        except AssertionError as why:
            self.found(f"{why}: {self.health()}")
            self.systemctl("restart", DAEMON)

    def health(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return json.loads(self.clients.ask("unix", "GET", "/healthz")[1])
        return {}

    def ended(self, name):
        """(status, video) once there is nothing to wait for."""
        def probe():
            status, data = self.clients.ask("unix", "GET", f"/v1/videos/{name}")
            video = json.loads(data)
            return (status, video) if status != 200 or video["status"] in ("completed", "failed") else None
        return wait_for(name, 120, probe)

    def excuse_end(self, job, code):
        """Why it may have failed with this."""
        if code == "cancelled":
            return job.cancelled
        if code == "interrupted":
            return sum(t > job.since for t in self.done["kill"]) >= ATTEMPTS
        return self.since(job.since, "encoder", "fill", "fault")

    def check_jobs(self):
        for name, job in self.jobs.items():
            status, video = self.ended(name)
            if status == 404 or job.deleted:
                if status != 404 or not job.deleting:
                    self.found(f"{name}, deleted: {job.deleted}, is answered with {status}")
                continue
            if video["status"] == "failed" and not self.excuse_end(job, video["error"]["code"]):
                self.found(f"{name} failed without a cause: {video['error']}")
            elif video["status"] == "completed" and not job.deleting:
                status, content = self.clients.ask("tcp", "GET", f"/v1/videos/{name}/content")
                if status != 200 or content[4:8] != b"ftyp":
                    self.found(f"{name} is completed, its content is {status} {content[:100]}")
        self.jobs.clear()

    def check_units(self):
        excuses = {WARM_UP: ("break", "fill", "withhold", "warm up"), RESERVE: ("break",),
                   "preheat-release.service": ("break",)}
        failed = self.m.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "*preheat*").stdout
        for line in failed.splitlines():
            unit = line.split()[0]
            if not self.since(self.began, *excuses.get(unit, ())):
                self.found(f"failed: {line}")
            self.systemctl("reset-failed", unit)
        for unit in SOCKETS:
            if (state := self.state(unit)) != "active":
                self.found(f"{unit} is {state}")
        self.open_sockets()

    def check_memory(self):
        """A stop of what was started gives all of it back."""
        for verb in ("start", "stop"):
            if not self.systemctl(verb, WARM_UP):
                self.found(f"{verb} of {WARM_UP} failed")
        left = self.m.run("find", "/run/preheat", "-type", "f", "!", "-path", "*/keeper/*").stdout.split()
        if left:
            self.found(f"in memory after a stop: {left}")
        self.systemctl("start", WARM_UP)

    def check_leftovers(self):
        self.systemctl("stop", DAEMON)
        if (result := self.m.show(DAEMON, "Result")) != "success":
            self.found(f"a stop in peace ends with {result}")
        for line in self.m.run("ps", "-u", "preheat", "-o", "pid=,stat=,args=", check=False).stdout.splitlines():
            if "preheat-keeper" not in line:
                self.found(f"left behind: {line}")
        files = self.m.run("find", STATE, "-mindepth", "1").stdout.splitlines()
        jobs = self.listed()
        for file in files:
            job = re.search(r"video_[0-9a-f]{32}", file)
            if HALF_WRITTEN.search(file) or (job and job[0] not in jobs):
                self.found(f"left behind: {file}")
        for name in jobs:
            self.clients.ask("tcp", "DELETE", f"/v1/videos/{name}")
        self.check_descriptors()

    def listed(self):
        data = json.loads(self.clients.ask("unix", "GET", "/v1/videos?limit=100")[1])
        names = [v["id"] for v in data["data"]]
        while data["has_more"]:
            data = json.loads(self.clients.ask("unix", "GET", f"/v1/videos?limit=100&after={names[-1]}")[1])
            names += [v["id"] for v in data["data"]]
        return names

    def count_descriptors(self):
        """Of the daemon, and of systemd but for those that it keeps for others."""
        count = lambda pid: len(self.m.run("ls", f"/proc/{pid}/fd", check=False).stdout.split())
        units = (DAEMON, KEEPER) if self.has_keeper else (DAEMON,)
        kept = sum(int(self.m.show(unit, "NFileDescriptorStore")) for unit in units)
        weights = self.health().get("detail", {}).get("weights")
        return {("preheatd", weights, self.parks): count(self.m.show(DAEMON, "MainPID")), "systemd": count(1) - kept}

    def check_descriptors(self):
        few = 8  # connections that come and go
        def are_as_before():
            return all(n <= self.descriptors.setdefault(who, n) + few for who, n in self.count_descriptors().items())
        try:
            wait_for("descriptors to be closed", 5, are_as_before, 0.5)
        except AssertionError:
            self.found(f"descriptors: {self.count_descriptors()}, {self.descriptors} before")

    def check_journal(self):
        self.m.run("journalctl", "--sync")
        since = f"--since=@{self.looked}"
        self.looked = time.time()
        lines = self.m.run("journalctl", "-o", "short-unix", "--no-pager", since, check=False).stdout.splitlines()
        # A signal that comes before main() has begun ends the start, which systemd takes for a breach of protocol.
        excuses = {"signal": self.since(self.began, "kill"), "protocol": self.since(self.began, "stop")}
        for line in (line for line in lines if " chaos: " not in line):
            failed = re.search(rf"{DAEMON}: Failed with result '(.*)'", line)
            if ALARMING.search(line) or (failed and not excuses.get(failed[1])):
                self.found(f"journal: {line}")


def run(m, seed, log, seconds=None, reserve="none"):
    """Bursts for so long, or those of the case; what was found."""
    deadline, n = time.monotonic() + (seconds or 0), 0
    with Chaos(m, seed, log, reserve) as chaos:
        while time.monotonic() < deadline if seconds else n < BURSTS:
            chaos.burst(STEPS)
            n += 1
    return n, chaos.faults


def case_random_things_break_nothing(m):
    log = pathlib.Path(m.log.name).with_name("chaos.log")
    print(f"chaos: seed {SEED}, {BURSTS * STEPS} steps", flush=True)
    _, faults = run(m, SEED, log)
    assert not faults, f"{len(faults)} faults, see {log}, the first: {faults[0]}"


def main():
    root, build, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 32)
    logs = pathlib.Path(build) / "system-logs"
    logs.mkdir(exist_ok=True)
    m = Machine(root, logs / f"chaos-{seed}.console")
    try:
        install(m, build)
        m.boot()
        print(f"seed {seed}, {m.run('systemctl', '--version').stdout.splitlines()[0]}", flush=True)
        n, faults = run(m, seed, logs / f"chaos-{seed}.log", seconds)
        (logs / f"chaos-{seed}.journal").write_text(m.run("journalctl", "--no-pager", "-o", "short-precise").stdout)
    finally:
        m.close()
    print("\n".join(faults + [f"{n * STEPS} steps, {len(faults)} faults"]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
