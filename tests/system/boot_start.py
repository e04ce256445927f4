"""Starts of a booted preheat that are slow or go wrong: cases of test-boot.py.

A late segment stands in for slow memory: this program holds the writer's lock and withholds its chunks. Faults of a
device come from tests/daemon/faulty-backend.so, which test-boot.py has put into the tree."""
import contextlib
import fcntl
import json
import mmap
import os
import re
import struct
import time
import xml.etree.ElementTree

from client import TCP, UNIX, create, finished, get, request
from machine import wait_for

CONF = "/etc/preheat/preheat.conf.d/50-test.conf"
DROP_IN = "/run/systemd/system/preheatd.service.d/start.conf"
FAULTY = "/usr/lib/preheat-test/faulty-backend.so"
HUGE_PAGE = 2 << 20
JSON = ("-H", "Content-Type: application/json", "-d")
F_OFD_SETLK = 37
STATES_AT, WORD_EMPTY, WORD_READY = 4096, 0, 0xa53cf00f


def prepare(m, conf="", faults="", unit=""):
    """The next start is of this configuration and with these faults, and is not one start too many."""
    m.run("systemctl", "stop", "preheatd.service")
    device = f"[backend]\nkind = cuda\nmodule = {FAULTY}\npark_vram = yes\n" if faults else ""
    m.write(CONF, device + conf)
    m.write(DROP_IN, f"[Service]\n{unit}\nEnvironment='PREHEAT_TEST_FAULTS={faults}'\n")
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "reset-failed", "preheatd.service", check=False)


def restore(m):
    prepare(m)
    m.run("rm", DROP_IN)
    m.run("systemctl", "daemon-reload")


def lines(m, since, *matches):
    """What the daemon said since then, at least a notice."""
    m.run("journalctl", "--sync")
    out = m.run("journalctl", "-o", "json", "--no-pager", "-p", "notice", f"--since=@{since}", "_SYSTEMD_UNIT=preheatd.service",
                *matches, check=False).stdout
    return [json.loads(line) for line in out.splitlines()]


def said(entries, text):
    return [e["MESSAGE"] for e in entries if text in e["MESSAGE"]]


def unit_is_sound(m):
    assert m.show("preheatd.service", "ActiveState") in ("active", "inactive"), m.show("preheatd.service", "ActiveState")
    assert m.show("preheatd.service", "NRestarts") == "0"


def warm(m):
    """The segment filled; its path outside."""
    m.run("systemctl", "stop", "preheatd.service", "preheat-warmup.service", "preheat-reserve.service")
    m.write(CONF, "[warmup]\nreserve = none\n")
    m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)
    m.run("systemctl", "start", "preheat-warmup.service", timeout=120)
    places = [f"/proc/{m.leader}/root/run/preheat/{d}/tiny-wan" for d in ("weights", "shared")]
    return next(p for p in places if os.path.exists(p))


@contextlib.contextmanager
def withheld(segment):
    """No chunk is there until the function that this yields is called; none ever where the file is removed meanwhile."""
    fd = os.open(segment, os.O_RDWR)
    try:
        fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
        with mmap.mmap(fd, HUGE_PAGE) as head:  # huge pages cannot be written to in another way
            n, = struct.unpack_from("<I", head, 12)
            put = lambda word: struct.pack_into(f"<{n}I", head, STATES_AT, *[word] * n)
            put(WORD_EMPTY)
            try:
                yield lambda: put(WORD_READY)
            finally:
                if os.fstat(fd).st_nlink:
                    put(WORD_READY)
    finally:
        os.close(fd)


def health(m):
    return get(m, TCP, "/healthz")[1]


def serving(m):
    return wait_for("the daemon to serve", 30, lambda: health(m)["phase"] == "serving")


def case_start_is_reported(m):
    prepare(m)
    serving(m)
    text = m.run("preheatctl", "start-report").stdout
    for word in ("manifest", "backend", "load", "# is the critical path", "waited for "):
        assert word in text, text
    m.run("preheatctl", "start-report", "--svg", "/root/start.svg")
    picture = xml.etree.ElementTree.fromstring(m.run("cat", "/root/start.svg").stdout)
    names = {t.text for t in picture.iter("{http://www.w3.org/2000/svg}text")}
    steps = [s["name"] for s in json.loads(m.run("preheatctl", "start-report", "--json").stdout)["start"]]
    assert len(steps) > 5 and set(steps) <= names, (steps, names)
    entries = m.journal("_SYSTEMD_UNIT=preheatd.service", "PHASE=start")
    assert any("# is the critical path" in e["MESSAGE"] for e in entries), "no timeline in the journal"
    entry = entries[-1]
    assert "waited for" in entry["MESSAGE"] and float(entry["SECONDS"]) > 0 and entry["START"].startswith("cold"), entry
    m.run("systemctl", "stop", "preheatd.service")
    asleep = m.run("preheatctl", "start-report", check=False)
    assert asleep.returncode and "PHASE=start" in asleep.stderr, asleep


def case_start_answers_while_it_loads(m):
    """Longer than TimeoutStartSec: a start that goes on asks for more."""
    segment = warm(m)
    finished(m, create(m, TCP))  # how long a job takes is known from one
    prepare(m, unit="TimeoutStartSec=2s")
    with withheld(segment) as publish:
        began = time.monotonic()
        status, answer = request(m, TCP, "/v1/videos", "-D", "/tmp/head", *JSON, json.dumps(
            {"prompt": "p", "width": 64, "height": 64, "num_frames": 5, "num_inference_steps": 1}))
        assert status == 200 and time.monotonic() - began < 2, answer
        job = json.loads(answer)
        assert job["phase"] == "loading" and job["eta_seconds"] is not None, job
        assert "openai-poll-after-ms:" in m.run("cat", "/tmp/head").stdout.lower()
        now = health(m)
        assert now["phase"] == "loading" and now["status"] == "starting" and now["percent"] < 100, now
        assert m.show("preheatd.service", "ActiveState") == "activating"
        assert m.show("preheatd.service", "StatusText").startswith("loading: "), m.show("preheatd.service", "StatusText")
        time.sleep(max(0, began + 3.5 - time.monotonic()))  # past TimeoutStartSec
        assert m.show("preheatd.service", "ActiveState") == "activating"
        publish()
        assert finished(m, job["id"])["status"] == "completed"
    wait_for("READY", 5, lambda: m.show("preheatd.service", "ActiveState") == "active")
    unit_is_sound(m)
    assert health(m)["detail"]["weights"] == "cold_host"


def case_degraded_answers_from_slow_memory(m):
    segment = warm(m)
    prepare(m)
    full = finished(m, create(m, TCP, num_inference_steps=4))
    with withheld(segment) as publish:  # how long a start takes is known from one
        prepare(m)
        job = create(m, TCP, prompt="another", num_inference_steps=1)
        time.sleep(2)
        publish()
        finished(m, job)
    serving(m)
    with withheld(segment) as publish:
        prepare(m, "[daemon]\ncold_start_deadline = 500ms\ndegrade = any\nladder = steps:1,frames:1,pixels:4096\n")
        post = lambda query, **fields: (lambda s, t: (s, json.loads(t)))(*request(
            m, TCP, "/v1/videos" + query, "-D", "/tmp/head", *JSON, json.dumps(fields)))
        same = {k: full[k] for k in ("prompt", "seed", "num_frames", "num_inference_steps", "size")}
        status, answer = post("", **same)
        assert status == 200 and answer["id"] == full["id"] and answer["degraded"].startswith("the stored result of the same"), answer
        status, answer = post("?upgrade=1", **{**same, "seed": 99})
        assert answer["id"] == full["id"] and answer["degraded"].startswith("a stored result of the same prompt"), answer
        upgrade = answer["upgrade_id"]
        status, refused = post("", **{**same, "prompt": "nobody asked", "degrade": "cached"})
        assert status == 503 and "is to begin within 0.5 s" in refused["error"]["message"], refused
        assert re.search(r"(?i)retry-after: [1-9]", m.run("cat", "/tmp/head").stdout)
        long = {"num_inference_steps": 100, "num_frames": 33, "size": "256x256"}  # which the wait is worth making good for
        status, simpler = post("", **{**same, "prompt": "nobody asked", **long})
        assert status == 200 and "1 steps instead of 100, 1 frames instead of 33" in simpler["degraded"], simpler
        publish()
        assert finished(m, upgrade)["seed"] == 99 and finished(m, simpler["id"])["status"] == "completed"


def case_device_memory_comes_late(m):
    for faults, field in (("open=2", "STEP=backend"), ("memory=1", "PRIORITY=4")):  # the load, or the job, meets the latter
        since = time.time()
        prepare(m, faults=faults)
        assert finished(m, create(m, TCP))["status"] == "completed"
        wait_for("READY", 10, lambda: m.show("preheatd.service", "ActiveState") == "active")
        entries = [e for e in lines(m, since, field) if "injected: no device memory" in e["MESSAGE"]]
        assert len(entries) == 1 and entries[0]["PRIORITY"] == "4" and entries[0]["PHASE"], entries
        unit_is_sound(m)


def case_without_retries_the_reason_is_answered(m):
    since = time.time()
    prepare(m, "[daemon]\nstart_retries = 0\n", "open=1")
    status, answer = request(m, TCP, "/v1/videos", *JSON, '{"prompt": "p"}')
    assert status == 503 and "step 'backend': injected: no device memory" in answer, answer
    assert len(said(lines(m, since), "injected: no device memory")) == 1
    assert m.show("preheatd.service", "ActiveState") == "active"  # it serves refusals
    unit_is_sound(m)


def case_device_that_does_not_answer_is_given_up(m):
    since = time.time()
    prepare(m, "[daemon]\nstart_timeout = 500ms\n", "hang=3000")
    status, answer = request(m, UNIX, "/v1/videos", *JSON, '{"prompt": "p"}')
    assert status == 503 and "step 'backend': no result within 0.5 s" in answer, answer
    assert len(said(lines(m, since), "no result within 0.5 s")) == 1
    m.run("systemctl", "stop", "preheatd.service")
    assert m.show("preheatd.service", "Result") == "success"


def case_state_directory_is_let_go(m):
    since = time.time()
    prepare(m)
    fd = os.open(f"/proc/{m.leader}/root/var/lib/preheat/lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        m.run("systemctl", "start", "--no-block", "preheatd.service")
        wait_for("the daemon to wait", 10, lambda: said(lines(m, since), "trying again"))
    finally:
        os.close(fd)
    assert finished(m, create(m, TCP))["status"] == "completed"
    entries = lines(m, since)
    assert len(said(entries, "uses the state directory")) == 1, [e["MESSAGE"] for e in entries]
    unit_is_sound(m)


def case_media_child_missing_fails_jobs_only(m):
    since = time.time()
    prepare(m, "[media]\nprogram = /nonexistent/preheat-media\n")
    video = finished(m, create(m, TCP))
    assert video["status"] == "failed" and "/nonexistent/preheat-media" in video["error"]["message"], video
    wait_for("the journal's line", 5, lambda: said(lines(m, since), "/nonexistent/preheat-media"))
    assert len(said(lines(m, since), "/nonexistent/preheat-media")) == 1
    assert health(m)["status"] == "ok"
    prepare(m)
    assert finished(m, create(m, TCP))["status"] == "completed"
    unit_is_sound(m)


def case_daemon_killed_while_it_starts(m):
    """Restart=on-failure; what was accepted is done by the next process."""
    segment = warm(m)
    prepare(m, unit="RestartSec=100ms")
    with withheld(segment) as publish:
        job = create(m, TCP)
        m.run("systemctl", "kill", "-s", "KILL", "preheatd.service")
        wait_for("another process", 20, lambda: m.show("preheatd.service", "NRestarts") == "1")
        publish()
        assert finished(m, job)["status"] == "completed"


def case_daemon_told_to_end_while_it_starts(m):
    """No failure, after which systemd would wait longer each time; who comes in the middle of it is served at once."""
    segment = warm(m)
    prepare(m, unit="RestartSec=60s")
    pids = set()
    with withheld(segment) as publish:
        for _ in range(4):
            assert get(m, TCP, "/v1/videos")[0] == 200 and m.show("preheatd.service", "ActiveState") == "activating"
            pids.add(m.show("preheatd.service", "MainPID"))
            m.run("systemctl", "kill", "-s", "TERM", "--kill-who=main", "preheatd.service")
        job = create(m, TCP)
        publish()
        assert finished(m, job)["status"] == "completed"
    assert len(pids) == 4 and m.show("preheatd.service", "Result") == "success", pids
    unit_is_sound(m)


def case_signal_to_reload_does_not_end_a_start(m):
    segment, since = warm(m), time.time()
    prepare(m)
    with withheld(segment) as publish:
        assert get(m, TCP, "/v1/videos")[0] == 200
        m.run("systemctl", "kill", "-s", "HUP", "--kill-who=main", "preheatd.service")
        wait_for("the reload", 10, lambda: said(lines(m, since), "Limits and defaults reloaded"))
        assert get(m, TCP, "/v1/videos")[0] == 200 and m.show("preheatd.service", "ActiveState") == "activating"
        publish()
    wait_for("READY", 10, lambda: m.show("preheatd.service", "ActiveState") == "active")
    m.run("systemctl", "reload", "preheatd.service")
    unit_is_sound(m)


def case_job_that_waits_for_weights_is_kept_by_a_stop(m):
    segment = warm(m)
    with withheld(segment):
        prepare(m, "[daemon]\ndrain_timeout = 1s\n")
        job = create(m, TCP)
        began = time.monotonic()
        m.run("systemctl", "stop", "preheatd.service")
        assert time.monotonic() - began < 15, "killed after TimeoutStopSec"
        assert m.show("preheatd.service", "Result") == "success"
    assert finished(m, job)["status"] == "completed"


def case_weights_taken_away_while_they_are_awaited(m):
    """The job is done by another process, which finds the files."""
    segment, since = warm(m), time.time()
    prepare(m)
    with withheld(segment):
        job = create(m, TCP)
        os.unlink(segment)
    done = finished(m, job)
    assert done["status"] == "completed" and done["start"] == "cold_disk", done
    assert len(said(lines(m, since), "given up half-way")) == 1
    assert not lines(m, since, "PRIORITY=3"), lines(m, since, "PRIORITY=3")
    unit_is_sound(m)
    warm(m)


def case_doctor_looks_at_everything(m):
    restore(m)
    out = m.run("preheatctl", "doctor", "--json", check=False)
    names = {f["check"] for f in json.loads(out.stdout)}
    wanted = {"versions", "model", "weights", "huge pages", "memory", "memlock", "disk", "media", "state", "groups", "port"}
    assert wanted <= names, names
