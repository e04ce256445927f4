"""test-start PREHEATD PREHEAT-MEDIA MODEL FAULTY-BACKEND [CASE]... - starts of the real daemon that go wrong, or under load, with requests arriving
meanwhile: no request is lost, and each failure is one line that says why.
"""
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from daemon import Daemon, Place

PREHEATD, MEDIA, MODEL, FAULTY = map(os.path.abspath, sys.argv[1:5])
N_STARTS = 100
QUICK = {"num_inference_steps": 1, "num_frames": 1, "size": "64x64"}


class Pressure:
    """Two processes that take CPU, one that writes and syncs to the disk, for as long as the block lasts."""

    def __init__(self, place):
        self.place = place

    def __enter__(self):
        spin = [sys.executable, "-c", "while True: pass"]
        write = ["sh", "-c", f"while :; do dd if=/dev/zero of='{self.place}/load' bs=1M count=16 conv=fsync; done"]
        self.processes = [subprocess.Popen(c, stderr=subprocess.DEVNULL, start_new_session=True) for c in (spin, spin, write)]

    def __exit__(self, *_):
        for p in self.processes:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()


def lines_of(said, priority):
    return [line for line in said.splitlines() if line.startswith(f"<{priority}>")]


def errors(d):
    return lines_of(d.said(), 3) + lines_of(d.said(), 2)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def starts_under_load():
    """Each start is killed or stopped while its request is on the way, at a moment of its own; what was accepted is there
    in the end."""
    with Place(MODEL, MEDIA) as place, Pressure(place.path):
        d = Daemon(PREHEATD, place, daemon={"queue_limit": 1000}, jobs={"max_stored_bytes": "1G"})
        accepted, waits = [], []
        try:
            for i in range(N_STARTS):
                d.start()
                began = time.monotonic()
                accepted.append(d.create(seed=i, **QUICK)["id"])  # connects while the daemon starts
                waits.append(time.monotonic() - began)
                if i % 5 == 4:
                    d.wait({"id": accepted[-1]})
                elif i % 5 == 3:
                    time.sleep(0.01 * (i % 20))
                d.process.send_signal(signal.SIGKILL if i % 2 else signal.SIGTERM)
                status = d.process.wait(30)
                assert status in (0, -signal.SIGKILL), (status, d.said()[-2000:])
            d.start()
            failed = []
            for id in accepted:
                video = d.wait({"id": id})
                if video["status"] != "completed":
                    failed.append(video)
            # Killed three times while it ran, a job is given up: that is told, and is no loss.
            assert all(v["error"]["code"] == "interrupted" for v in failed), failed
            assert len(failed) <= N_STARTS // 50, failed
            assert not errors(d), errors(d)
            ready = [line for line in d.said().splitlines() if " Started in " in line]
            print(f"{N_STARTS} starts under load, {len(accepted)} requests, {len(failed)} given up after three kills; answered "
                  f"after {percentile(waits, .5):.3f} s (median), {max(waits):.3f} s (worst); {len(ready)} starts finished")
        finally:
            d.__exit__(None, None, None) if not sys.exc_info()[0] else d.__exit__(*sys.exc_info())


def requests_during_one_start():
    """Twenty connections before the daemon has run its first line: all are answered."""
    with Place(MODEL, MEDIA) as place, Pressure(place.path):
        d = Daemon(PREHEATD, place)
        answers = []

        def ask(seed):
            answers.append(d.ask("POST", "/v1/videos", {"prompt": "p", "seed": seed, **QUICK}))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
        for t in threads:
            t.start()
        time.sleep(0.05)  # they wait in the backlog
        with d:
            for t in threads:
                t.join(60)
            assert [s for s, _ in answers] == [200] * 20, answers
            assert all(d.wait(v)["status"] == "completed" for _, v in answers)
            report = d.ask("GET", "/healthz")[1]["detail"]
            assert [s["name"] for s in report["start"] if s["outcome"] not in ("done", "fell back")] == [], report


def media_child_missing():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place, media={"program": "/nonexistent/preheat-media"}) as d:
        video = d.wait(d.create(**QUICK))
        assert video["status"] == "failed" and "/nonexistent/preheat-media" in video["error"]["message"], video
        d.wait_said(f"Job {video['id']} failed")  # a moment after clients see it
        assert len(errors(d)) == 1 and "/nonexistent/preheat-media" in errors(d)[0], errors(d)
        assert d.ask("GET", "/healthz")[0] == 200


def manifest_damaged():
    with Place(MODEL, MEDIA) as place:
        manifest = place.path / "tiny.manifest"
        for damage in (b"", b"PREHEATM" + bytes(4000), os.urandom(5000)):
            manifest.write_bytes(damage)
            with Daemon(PREHEATD, place, model={"path": str(manifest)}) as d:
                reason = d.refusal()
                assert str(manifest) in reason, reason
                assert len(errors(d)) == 1 and reason in errors(d)[0], errors(d)
                detail = d.ask("GET", "/healthz")[1]["detail"]
                step = [s for s in detail["start"] if s["name"] == "manifest"][0]
                assert step["outcome"] == "failed" and str(manifest) in step["error"], step
                lines = [line for line in d.said().splitlines() if "Gave up the start in " in line]
                assert len(lines) == 1, d.said()


def state_directory_cannot_be_written():
    with Place(MODEL, MEDIA) as place:
        with Daemon(PREHEATD, place, jobs={"state_dir": "/proc"}) as d:
            reason = d.refusal()
            assert "/proc" in reason and len(errors(d)) == 1 and reason in errors(d)[0], (reason, errors(d))
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", place.state],
                                               stderr=subprocess.DEVNULL).returncode:
            return  # no read-only mount to be had
        try:
            with Daemon(PREHEATD, place) as d:
                reason = d.refusal()
                assert "Read-only file system" in reason and str(place.state) in reason, reason
                assert len(errors(d)) == 1, errors(d)
        finally:
            subprocess.run(["umount", place.state], check=True)


def two_daemons_contend():
    with Place(MODEL, MEDIA) as place:
        first, second = Daemon(PREHEATD, place), Daemon(PREHEATD, place)
        first.start()
        second.start()
        try:
            reasons = []
            end = time.monotonic() + 20
            while not reasons and time.monotonic() < end:
                reasons = [(d, r) for d in (first, second) for s, r in [d.ask("POST", "/v1/videos", {"prompt": "p", **QUICK})]
                           if s == 503]
            loser, answer = reasons[0]
            winner = second if loser is first else first
            assert f"process {winner.process.pid}" in answer["error"]["message"], answer
            assert str(place.state) in answer["error"]["message"], answer
            assert len(errors(loser)) == 1 and not errors(winner), (errors(loser), errors(winner))
            assert winner.wait(winner.create(**QUICK))["status"] == "completed"
        finally:
            first.__exit__(*sys.exc_info())
            second.__exit__(*sys.exc_info())


def versions_differ():
    with Place(MODEL, MEDIA) as place:
        lock = place.path / "versions.lock"
        good = subprocess.run([PREHEATD, "--print-lock"], capture_output=True, text=True, check=True).stdout
        lock.write_text(good)
        seconds = []
        for _ in range(3):  # the best of them: 0.2 ms here, but the machine is shared
            with Daemon(PREHEATD, place, daemon={"version_lock": lock, "version_policy": "refuse"}) as d:
                assert d.wait(d.create(**QUICK))["status"] == "completed" and not errors(d), d.said()
                versions = step(d, "versions")
                seconds.append(versions["end"] - versions["start"])
        assert min(seconds) < 0.005, seconds
        lock.write_text(good + "library libnever.so.1 0123abcd\n")
        with Daemon(PREHEATD, place, daemon={"version_lock": lock, "version_policy": "refuse"}) as d:
            reason = d.refusal()
            assert "library 'libnever.so.1' is missing, wanted is build-id 0123abcd" in reason, reason
            assert len(errors(d)) == 1, errors(d)
        with Daemon(PREHEATD, place, daemon={"version_lock": lock, "version_policy": "warn"}) as d:
            assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
            assert len(lines_of(d.said(), 4)) == 1 and "libnever.so.1" in lines_of(d.said(), 4)[0], d.said()


def degraded_by_a_damaged_ladder():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place, daemon={"ladder": "steps:many"}) as d:
        reason = d.refusal()
        assert "[daemon] ladder" in reason and "steps:many" in reason and len(errors(d)) == 1, reason


def step(d, name):
    return [s for s in d.ask("GET", "/healthz")[1]["detail"]["start"] if s["name"] == name][0]


def faulty(faults, place, **sections):
    """With park_vram the CPU's engine takes memory for its weights, as a device does."""
    d = Daemon(PREHEATD, place, backend={"kind": "cuda", "module": FAULTY, "park_vram": "yes"}, **sections)
    d.environment["PREHEAT_TEST_FAULTS"] = faults
    return d


def device_memory_comes_late():
    with Place(MODEL, MEDIA) as place:
        for faults, name in (("open=2", "backend"), ("memory=3", "load")):
            with faulty(faults, place, daemon={"start_retry_delay": "20ms"}) as d:
                # The job itself may meet some of these.
                assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
                assert step(d, name)["tries"] > 1 and step(d, name)["outcome"] == "done", step(d, name)
                lines = [line for line in lines_of(d.said(), 4) if f"Step '{name}' of the start: " in line]
                assert len(lines) == 1 and "injected: no device memory" in lines[0] and "done at attempt" in lines[0], d.said()
            with faulty(faults, place, daemon={"start_retries": 0}) as d:
                assert "injected: no device memory" in d.refusal() and step(d, name)["tries"] == 1, d.said()


def device_that_does_not_answer():
    with Place(MODEL, MEDIA) as place, faulty("hang=2000", place, daemon={"start_timeout": "100ms"}) as d:
        reason = d.refusal()
        assert "step 'backend': no result within 0.1 s" in reason and len(errors(d)) == 1, (reason, d.said())
        assert step(d, "backend")["outcome"] == "timed out", step(d, "backend")
        assert d.ask("GET", "/healthz")[0] == 503


def device_that_never_answers():
    """A thread in a driver cannot be ended: the daemon leaves without it, not by the watchdog."""
    with Place(MODEL, MEDIA) as place:
        for refused in (True, False):
            with faulty("hang=600000", place, daemon={"start_timeout": "100ms" if refused else "60s"}) as d:
                if refused:
                    assert "no result within 0.1 s" in d.refusal(), d.said()
                while step(d, "backend")["outcome"] == "pending":
                    time.sleep(0.02)
                d.process.send_signal(signal.SIGTERM)
                assert d.process.wait(8) == 0, d.said()
                assert "ending without it" in d.said(), d.said()


def answers_before_the_device_does():
    """What a job is held against is not known yet: the job waits for it, everything else does not."""
    with Place(MODEL, MEDIA) as place:
        with faulty("hang=1500", place) as d:
            began = time.monotonic()
            jobs = []
            client = threading.Thread(target=lambda: jobs.append(d.create(**QUICK)))
            client.start()
            status, health = d.ask("GET", "/healthz")
            assert status == 200 and health["status"] == "starting" and health["phase"] == "starting", health
            assert d.ask("GET", "/v1/videos")[0] == 200 and b"starting" in d.ask("GET", "/")[1]
            assert time.monotonic() - began < 1.4 and not jobs, (time.monotonic() - began, jobs)
            client.join()
            assert d.wait(jobs[0])["status"] == "completed"
            assert d.ask("POST", "/v1/videos", {"prompt": "p", "size": "63x64"})[0] == 400
        with faulty("hang=6000", place) as d:
            began = time.monotonic()
            status, body = d.ask("POST", "/v1/videos", {"prompt": "p"})
            assert status == 503 and "being opened" in body["error"]["message"], body
            assert 4 < time.monotonic() - began < 5.9, time.monotonic() - began
        with faulty("hang=1500", place) as d:  # stopped with a job that waits
            client = threading.Thread(target=lambda: jobs.append(d.ask("POST", "/v1/videos", {"prompt": "p"})))
            client.start()
            d.ask("GET", "/healthz")
            d.process.send_signal(signal.SIGTERM)
            assert d.process.wait(20) == 0, d.said()
            client.join()


def memory_is_reserved_without_a_job():
    """A job that is small itself finds what the largest needs: as much as that one took where it was asked for."""
    limits = {"max_width": 256, "max_height": 256, "max_pixels": 65536, "max_frames": 33}
    with Place(MODEL, MEDIA) as place:
        def peak(d, **fields):
            video = d.wait(d.create(**fields))
            assert video["status"] == "completed", video
            return video["peak_device_memory_mb"]

        with faulty("", place, limits=limits) as d:
            small = peak(d, **QUICK)
            large = peak(d, **dict(QUICK, num_frames=33, size="256x256"))
        with faulty("total=4096", place, limits=limits) as d:
            d.wait_said("Ready: ")
            end = time.monotonic() + 60
            while (reserved := peak(d, **QUICK)) == small and time.monotonic() < end:
                pass  # the worker had not come to it
            assert small < large <= reserved, (small, large, reserved)  # a picture of its own takes a little more


def damaged_segment():
    with Place(MODEL, MEDIA) as place, tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="preheat-test-") as segment:
        segment.write(os.urandom(3 << 20))
        segment.flush()
        model = {"segment": segment.name}
        with Daemon(PREHEATD, place, model=model) as d:
            assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
            lines = [line for line in lines_of(d.said(), 4) if "Step 'weights' of the start: " in line]
            assert len(lines) == 1 and segment.name in lines[0] and "taking the other way" in lines[0], d.said()
        with Daemon(PREHEATD, place, model=model, daemon={"start_fallback": "no"}) as d:
            assert segment.name in d.refusal() and len(errors(d)) == 1, d.said()


def abandoned_segment():
    """As a warm-up leaves it that failed half way: nobody goes on, the files serve."""
    with Place(MODEL, MEDIA) as place, tempfile.TemporaryDirectory(dir="/dev/shm", prefix="preheat-test-") as memory:
        model = {"segment": f"{memory}/weights"}
        warmup = [os.path.join(os.path.dirname(PREHEATD), "preheat-warmup"), "--config", place.configure({"model": model})]
        subprocess.run(warmup, check=True, capture_output=True)
        with open(model["segment"], "r+b") as segment:
            segment.seek(4096 + 4)  # the second chunk's state, see store/segment-format.h
            segment.write(bytes(4))  # empty
        with Daemon(PREHEATD, place, model=model) as d:
            assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
            lines = [line for line in lines_of(d.said(), 4) if "Step 'weights' of the start: " in line]
            assert len(lines) == 1 and "chunk 1 of 3 is not loaded and nobody loads it" in lines[0], d.said()
        with Daemon(PREHEATD, place, model=model, daemon={"start_fallback": "no"}) as d:
            assert "nobody loads it" in d.refusal() and len(errors(d)) == 1, d.said()


def take_state(place):
    fd = os.open(place.state / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def state_directory_is_let_go():
    with Place(MODEL, MEDIA) as place:
        fd = take_state(place)
        with Daemon(PREHEATD, place) as d:
            d.wait_said("Jobs cannot be kept yet: another preheatd")
            os.close(fd)
            assert d.wait(d.create(**QUICK))["status"] == "completed" and not errors(d), d.said()


def state_directory_is_kept():
    """The one that cannot have it leaves after a while, so that a later connection finds one that can."""
    with Place(MODEL, MEDIA) as place:
        fd = take_state(place)
        with Daemon(PREHEATD, place, daemon={"start_retry_delay": "10ms"}) as d:
            assert str(place.state) in d.refusal() and len(errors(d)) == 1, d.said()
            assert d.process.wait(20) == 0, d.said()
            os.close(fd)
            d.start()
            assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
        fd = take_state(place)
        with Daemon(PREHEATD, place) as d:
            d.wait_said("trying again")  # and is stopped while it waits
        os.close(fd)


def leaves_while_asked(d, seconds):
    """Else a client that asks again and again would be refused for ever."""
    end = time.monotonic() + seconds
    while d.process.poll() is None:
        assert time.monotonic() < end, d.said()
        try:
            d.ask("GET", "/healthz", timeout=2)
        except OSError:
            break  # in the middle of its end: who asks then waits in the socket
        time.sleep(0.05)
    assert d.process.wait(5) == 0, d.said()


def configuration_and_model_are_mended():
    with Place(MODEL, MEDIA) as place:
        both = [Daemon(PREHEATD, place, daemon={"idle_exti": "10s"}), Daemon(PREHEATD, place, model={"path": place.path / "model"})]
        with both[0] as wrong, both[1] as missing:
            assert "idle_exti" in wrong.refusal() and str(place.path) in missing.refusal()
            wrong.config.write_text(wrong.config.read_text().replace("idle_exti", "idle_exit"))
            place.copy_model()
            for d in both:
                leaves_while_asked(d, 30)
            for d in both:
                d.start()
                assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
                d.process.terminate()
                assert d.process.wait(20) == 0, d.said()


def state_directory_is_full_for_a_while():
    with Place(MODEL, MEDIA) as place:
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place.state],
                                               stderr=subprocess.DEVNULL).returncode:
            return  # no small file system to be had
        try:
            full = place.state / "full"
            subprocess.run(["dd", "if=/dev/zero", f"of={full}", "bs=4k"], stderr=subprocess.DEVNULL)
            with Daemon(PREHEATD, place) as d:
                reason = d.refusal()
                assert "Jobs cannot be kept" in reason and "No space left on device" in reason, reason
                leaves_while_asked(d, 10)
                full.unlink()
                d.start()
                assert d.wait(d.create(**QUICK))["status"] == "completed", d.said()
        finally:
            subprocess.run(["umount", place.state], check=True)


def told_to_end_before_it_listens():
    """While it reads its configuration; death by SIGTERM in the middle of a start is a failure to systemd."""
    with Place(MODEL, MEDIA) as place:
        d = Daemon(PREHEATD, place)
        directory = d.config.with_name(d.config.name + ".d")
        directory.mkdir()
        for i in range(2000):
            (directory / f"{i:04}.conf").write_text("[daemon]\n" * 100)
        with d:
            fds, reads = f"/proc/{d.process.pid}/fd", lambda: [os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)]
            end, found = time.monotonic() + 20, False
            while not found and time.monotonic() < end:
                try:
                    found = any(str(directory) in file for file in reads())
                except FileNotFoundError:
                    pass  # closed meanwhile
            assert found, d.said()
            d.process.send_signal(signal.SIGTERM)
            assert d.process.wait(20) == 0, d.said()


def variants_are_drawn_and_compared():
    ctl = os.path.join(os.path.dirname(PREHEATD), "preheatctl")
    with Place(MODEL, MEDIA) as place:
        for name, text in (("one-thread", "[backend]\nthreads = 1\n"), ("two-threads", "[backend]\nthreads = 2\n"),
                           ("wrong", "[daemon]\nstart_retires = 1\n")):
            (place.path / f"{name}.conf").write_text(text)
        files = " ".join(str(place.path / f"{name}.conf") for name in ("one-thread", "two-threads"))
        d = Daemon(PREHEATD, place, daemon={"start_variants": files})
        compare = lambda *options: subprocess.run([ctl, "--config", d.config, "--socket", d.socket, "start-report", "--wake", *options],
                                                  capture_output=True, text=True)
        n, seen = 24, []  # one of them alone: once in eight million runs
        for i in range(n + 1):
            d.start()
            while (health := d.ask("GET", "/healthz")[1])["phase"] != "serving":
                time.sleep(0.01)
            seen.append(health["detail"]["variant"])
            threads = health["detail"]["device"].split()[0]
            assert threads == {"one-thread": "1", "two-threads": "2"}[seen[-1]], health
            if i < n:
                d.process.send_signal(signal.SIGTERM)
                assert d.process.wait(30) == 0
        with_each = {v["variant"]: v["starts"] for v in health["detail"]["variants"]}
        assert with_each == {name: seen[:n].count(name) for name in ("one-thread", "two-threads")}, (with_each, seen)
        assert f"Started with variant {seen[0]} in " in d.said(), d.said()
        table = compare("--compare")
        assert table.returncode == 0 and len(table.stdout.splitlines()) == 3 and "two-threads" in table.stdout, table
        d.__exit__(None, None, None)
        for value, words in ((f"{place.path}/wrong.conf", ("wrong.conf:2", "start_retires")), ("/nonexistent/a.conf", ("/nonexistent/a.conf",)),
                             ("a.conf", ("'a.conf' is no absolute path",)), (f"{place.path}/x", ("/x' is no absolute path of a file NAME.conf",)),
                             (" ".join(["/a.conf"] * 9), ("more than 8",))):
            with Daemon(PREHEATD, place, daemon={"start_variants": value}) as d:
                reason = d.refusal()
                assert all(word in reason for word in words), (value, reason)


CASES = (starts_under_load, requests_during_one_start, media_child_missing, manifest_damaged,
         state_directory_cannot_be_written, two_daemons_contend, versions_differ, device_memory_comes_late, device_that_does_not_answer,
         device_that_never_answers, answers_before_the_device_does,
         memory_is_reserved_without_a_job,
         damaged_segment, abandoned_segment, state_directory_is_let_go, state_directory_is_kept,
         state_directory_is_full_for_a_while, configuration_and_model_are_mended, told_to_end_before_it_listens,
         variants_are_drawn_and_compared, degraded_by_a_damaged_ladder)


def main():
    wanted, failed = sys.argv[5:], 0
    for case in CASES:
        if wanted and case.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            case()
            print(f"ok {case.__name__} ({time.monotonic() - began:.1f} s)")
        except Exception:
            failed += 1
            print(f"not ok {case.__name__}")
            traceback.print_exc(file=sys.stdout)
    sys.exit(failed > 0)


main()
