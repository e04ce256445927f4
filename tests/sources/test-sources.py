#!/usr/bin/env python3
"""test-sources.py PREHEAT-WARMUP PREHEATCTL PREHEATD PREHEAT-MEDIA MODEL [CASE...]: models that come from elsewhere, over real sockets, from servers that fail in
every way; each run ends with the right bytes in memory, or with a sentence that names the address, what was found and
what was wanted, and no chunk that was handed out is wrong. One line a case."""
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from server import Server, signature_is_right

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "daemon"))
from daemon import Daemon, Place  # noqa: E402

WARMUP, CTL, PREHEATD, MEDIA, MODEL = map(os.path.abspath, sys.argv[1:6])
OFFICIAL = pathlib.Path(__file__).resolve().parent.parent / "golden" / "official" / "model"
READY, BAD = 0xA53CF00F, 0x0FF0A5A5
DIT = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


class Skip(Exception):
    pass


class Manifest:
    """A manifest's files and chunks, read by the description in store/manifest-format.h."""

    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        n_files, n_tensors, n_chunks, n_smalls = struct.unpack_from("<4I", data, 48)
        self.digest = data[80:96].hex()
        tables = 96 + 56 * n_files + 88 * n_tensors
        texts = tables + 40 * n_chunks + 24 * n_smalls
        self.files, self.chunks = [], []
        for i in range(n_files):
            name, _, size, _, begin = struct.unpack_from("<IIQqQ", data, 96 + 56 * i)
            at = texts + name
            self.files.append((data[at:data.index(b"\0", at)].decode(), size, begin))
        for i in range(n_chunks):
            file, _, at, size = struct.unpack_from("<IIQQ", data, tables + 40 * i)
            self.chunks.append((self.files[file][0], at, size, self.files[file][2] + at))

    def of(self, name):
        return [c for c in self.chunks if c[0] == name]


class Bench:
    """A model to serve, and a place to fetch it to."""

    def __init__(self, work, model=MODEL):
        self.work = work
        self.site, self.here = work / "site", work / "here"
        self.root = self.site / "models" / "wan"
        shutil.copytree(model, self.root)
        self.here.mkdir()
        self.publish()
        self.segment = pathlib.Path(f"/dev/shm/preheat-test-sources-{os.getpid()}")
        self.kept = self.here / "models/cache/wan"
        self.files = self.kept / "files"

    def publish(self):
        ctl = subprocess.run([CTL, "model", "add", self.root, "--name", "wan", "--chunk-size", "2", "--models-dir",
                              self.work, "--force"], check=True, capture_output=True, text=True)
        shutil.copy(self.work / "wan.manifest", self.root / "preheat.manifest")
        self.manifest = Manifest(self.work / "wan.manifest")
        assert self.manifest.digest in ctl.stdout, ctl.stdout

    def configure(self, source, model=None, warmup=None, **keys):
        sections = {"model": {"name": "wan", "source": source, "segment": self.segment, **(model or {})},
                    "jobs": {"state_dir": self.here},
                    "source": {"retry_delay": "20ms", "retries": 3, "stall_timeout": "2s", **keys},
                    "warmup": {"free_memory_floor": "16M", "retry_delay": "20ms", "retries": 2, **(warmup or {})}}
        path = self.work / "preheat.conf"
        path.write_text("".join(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in section.items())
                                for name, section in sections.items()))
        return sections

    def command(self, *options, wrap=()):
        return [*wrap, WARMUP, "--config", str(self.work / "preheat.conf"), *options]

    def run(self, *options, code=0, wrap=(), seconds=60, **credentials):
        env = dict(os.environ)
        if credentials:
            place = self.work / "credentials"
            place.mkdir(exist_ok=True)
            for name, text in credentials.items():
                (place / f"preheat.source-{name}").write_text(text)
            env["CREDENTIALS_DIRECTORY"] = str(place)
        done = subprocess.run(self.command(*options, wrap=wrap), capture_output=True, text=True, env=env,
                              timeout=seconds)
        assert done.returncode == code, f"{options} ended with {done.returncode}: {done.stderr}"
        if not options:
            self.look(whole=code == 0)
        return done.stderr

    def look(self, whole=False):
        """The numbers of ready and bad chunks; every ready one must hold its file's bytes."""
        if not self.segment.exists():
            assert not whole
            return 0, 0
        data = self.segment.read_bytes()
        words = struct.unpack_from(f"<{len(self.manifest.chunks)}I", data, 4096)
        for word, (name, at, size, place) in zip(words, self.manifest.chunks):
            if word == READY:
                assert data[place:place + size] == self.true_bytes(name)[at:at + size], f"wrong bytes of {name} at {at}"
        assert not whole or set(words) == {READY}, [hex(w) for w in words]
        return words.count(READY), words.count(BAD)

    def true_bytes(self, name):
        return (self.root / name).read_bytes()

    def check_cache(self):
        for name, size, _ in self.manifest.files:
            assert (self.files / name).read_bytes() == self.true_bytes(name), name
        assert not [p for p in self.kept.rglob("*.part")], list(self.kept.rglob("*"))

    def weights(self):
        return sum(size for _, size, _ in self.manifest.files)

    def done(self):
        self.segment.unlink(missing_ok=True)


def weights_of(server):
    return [r for r in server.seen() if r.name != "preheat.manifest"]


def direct_leaves_the_disk_alone(b):
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"), mode="direct")
        b.run()
        assert all(r.range for r in weights_of(s)), weights_of(s)
        assert sum(r.sent for r in weights_of(s)) == b.weights()
        found = sorted(p.name for p in b.here.rglob("*") if p.is_file())
        assert found == ["manifest", "source"], found
        s.forget()
        b.run()
        assert not s.seen(), s.seen()  # all is in memory, and known


def cache_is_filled_once(b):
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"))
        b.run("--fetch")
        b.check_cache()
        assert sum(r.sent for r in weights_of(s)) == b.weights()
        s.forget()
        b.run()
        assert not s.seen(), s.seen()
        b.run("--fetch")
        assert [r.name for r in s.seen()] == ["preheat.manifest"], s.seen()
    b.segment.unlink()
    b.run()  # the server is gone
    said = b.run("--fetch")
    assert "keeping the manifest" in said and "cannot connect" in said, said
    assert "are as the manifest says" in b.run("--verify")


def official_files_come_as_they_are(b):
    """A .pth file's chunks are bytes like any other's."""
    o = Bench(b.work / "official", OFFICIAL)
    with Server(o.site) as s:
        for mode in ("direct", "cache"):
            s.forget()
            o.configure(s.url("/models/wan"), mode=mode)
            o.run()
            assert {r.name.rsplit(".", 1)[1] for r in weights_of(s)} == {"pth", "safetensors"}, weights_of(s)
            assert sum(r.sent for r in weights_of(s)) == o.weights()
            o.done()
    o.check_cache()


def both_modes(case):
    def run(b):
        for mode in ("direct", "cache"):
            with Server(b.site) as s:
                case(b, s, mode)
            b.done()
            shutil.rmtree(b.here)
            b.here.mkdir()
    run.__name__ = case.__name__
    return run


@both_modes
def dropped_connections_are_taken_up(b, s, mode):
    s.answer = lambda reply: reply.dropped(300_000)
    b.configure(s.url("/models/wan"), mode=mode, retries=1)
    b.run()
    size = (b.root / "preheat.manifest").stat().st_size
    for part, wanted in ((".safetensors", b.weights()), (".manifest", size)):
        sent = sum(r.sent for r in s.seen(part))
        assert sent == wanted, (sent, wanted)  # nothing came twice
    assert len(weights_of(s)) > b.weights() / 300_000


@both_modes
def short_answers_go_on(b, s, mode):
    s.answer = lambda reply: reply.short(200_000) if reply.request.range else reply.good()
    b.configure(s.url("/models/wan"), mode=mode)
    b.run()
    assert sum(r.sent for r in weights_of(s)) == b.weights()


@both_modes
def answers_that_promise_more_are_taken_up(b, s, mode):
    """The whole range in the head, fewer bytes behind it, and the connection stays."""
    def answer(reply):
        begin, end = reply.wanted()
        if not reply.request.range:
            return reply.good()
        n = min(end - begin, 250_000)
        reply.head(206, n, Content_Range=f"bytes {begin}-{end - 1}/{len(reply.data)}")
        reply.body(reply.data[begin:begin + n])
    s.answer = answer
    b.configure(s.url("/models/wan"), mode=mode, retries=1)
    b.run()
    assert sum(r.sent for r in weights_of(s)) == b.weights()


@both_modes
def answers_without_bytes_are_given_up(b, s, mode):
    def answer(reply):
        if ".safetensors" in reply.request.path:
            reply.dropped(0)
        else:
            reply.good()
    s.answer = answer
    b.configure(s.url("/models/wan"), mode=mode)
    said = b.run(code=1)
    assert s.url("/models/wan/") in said and "broke off after 0 of" in said, said
    assert b.look()[0] == 0
    s.answer = lambda reply: reply.good()
    b.run()


@both_modes
def wrong_bytes_are_fetched_again(b, s, mode):
    seen = set()

    def answer(reply):
        first = reply.request.name.endswith(".safetensors") and reply.request.range not in seen
        seen.add(reply.request.range)
        (reply.wrong_bytes if first else reply.good)()
    s.answer = answer
    b.configure(s.url("/models/wan"), mode=mode)
    b.run()


@both_modes
def wrong_bytes_for_ever_are_never_handed_out(b, s, mode):
    name, at, size, _ = b.manifest.of(DIT)[1]

    def answer(reply):
        begin, end = reply.wanted()
        bad = reply.request.path.endswith(DIT) and begin < at + size and end > at
        (reply.wrong_bytes if bad else reply.good)()
    s.answer = answer
    b.configure(s.url("/models/wan"), mode=mode)
    said = b.run(code=1)
    assert DIT in said and "have the digest" in said and "the manifest says" in said, said
    if mode == "direct":
        assert b.look() == (len(b.manifest.chunks) - 1, 1)
    else:
        assert (b.files / f"{DIT}.part").exists() and not (b.files / DIT).exists()
    s.answer = lambda reply: reply.good()
    s.forget()
    b.run()
    again = [r for r in weights_of(s) if DIT in r.path]
    assert [r.range for r in again] == [(at, at + size)] or mode == "cache" and len(again) < len(b.manifest.of(DIT)), again


@both_modes
def busy_servers_are_waited_for(b, s, mode):
    refused = []

    def answer(reply):
        if ".safetensors" in reply.request.path and len(refused) < 2:
            refused.append(time.monotonic())
            return reply.status((429, 503)[len(refused) - 1], Retry_After="1")
        if ".safetensors" in reply.request.path:
            refused.append(time.monotonic())
        reply.good()
    s.answer = answer
    b.configure(s.url("/models/wan"), mode=mode, connections=1)
    b.run()
    assert refused[1] - refused[0] > 0.9 and refused[2] - refused[1] > 0.9, refused


@both_modes
def servers_that_stay_busy_are_given_up(b, s, mode):
    s.answer = lambda reply: reply.status(503) if "transformer" in reply.request.path else reply.good()
    b.configure(s.url("/models/wan"), mode=mode)
    began = time.monotonic()
    said = b.run(code=1)
    assert f"'{s.url('/models/wan/' + DIT)}': the server cannot answer now (HTTP 503)" in said, said
    assert time.monotonic() - began < 10
    s.answer = lambda reply: reply.good()
    b.run()


def ranges_ignored(b):
    with Server(b.site) as s:
        s.answer = lambda reply: reply.whole()
        b.configure(s.url("/models/wan"), mode="direct")
        said = b.run(code=1)
        assert "the server ignores ranges" in said and s.url() in said, said
        b.done()
        s.forget()
        b.configure(s.url("/models/wan"), connections=2)
        said = b.run()
        assert "in one piece" in said, said
        b.check_cache()
        whole = [r for r in weights_of(s) if r.sent > len(b.true_bytes(r.path.removeprefix("/models/wan/"))) - 1]
        assert len(whole) == len(b.manifest.files), (whole, weights_of(s))


def ranges_ignored_and_dropped(b):
    """Each attempt begins at byte 0; chunks that were verified are kept."""
    with Server(b.site) as s:
        state = {"n": 0}

        def answer(reply):
            if DIT not in reply.request.path:
                return reply.whole()
            state["n"] += 1
            reply.head(200, len(reply.data))
            reply.body(reply.data[:1_500_000 * state["n"]])
            reply.hang_up()
        s.answer = answer
        b.configure(s.url("/models/wan"), connections=1)
        b.run()
        b.check_cache()


def whole_files_that_are_wrong_wait_longer_each_time(b):
    with Server(b.site) as s:
        asked = []

        def answer(reply):
            if DIT in reply.request.path and reply.request.range in (None, (0, len(reply.data))):
                asked.append(time.monotonic())
                damaged = bytearray(reply.data)
                damaged[-100] ^= 1
                reply.data = bytes(damaged) if len(asked) < 4 else reply.data
            reply.whole()
        s.answer = answer
        b.configure(s.url("/models/wan"), connections=1, warmup={"retry_delay": "200ms", "retries": 3})
        b.run()
        pauses = [after - before for before, after in zip(asked, asked[1:])]
        assert len(pauses) == 3 and all(p > wanted for p, wanted in zip(pauses, (.19, .39, .79))), pauses
        b.check_cache()


@both_modes
def stalls_are_broken_off(b, s, mode):
    stalled, left = [], threading.Event()

    def answer(reply):
        if ".safetensors" in reply.request.path and len(stalled) < 2:
            begin, end = reply.wanted()
            stalled.append(reply.request)
            reply.head(206, end - begin, Content_Range=f"bytes {begin}-{end - 1}/{len(reply.data)}")
            reply.body(reply.data[begin:begin + 1000])
            left.wait(20)
            return reply.hang_up()
        reply.good()
    s.answer = answer
    b.configure(s.url("/models/wan"), mode=mode, stall_timeout="1s")
    began = time.monotonic()
    b.run()
    left.set()
    assert len(stalled) == 2 and 1 <= time.monotonic() - began < 10, (stalled, time.monotonic() - began)


@both_modes
def bandwidth_is_kept(b, s, mode):
    limit = 4 << 20
    b.configure(s.url("/models/wan"), mode=mode, bandwidth="4M")
    began = time.monotonic()
    b.run()
    took, least = time.monotonic() - began, b.weights() / limit
    assert least * 0.9 < took < least * 1.6 + 1, (took, least)


@both_modes
def ranges_that_do_not_fit_are_refused(b, s, mode):
    for text, words in (("bytes 0-9/10", "has 10 bytes, the manifest says"), ("bytes {begin}-{end}/7", "Content-Range 'bytes"),
                        ("bytes */{size}", "Content-Range 'bytes"), ("pages 1-2/3", "Content-Range 'pages 1-2/3'")):
        s.answer = lambda reply: (reply.wrong_range(text) if ".safetensors" in reply.request.path else reply.good())
        b.configure(s.url("/models/wan"), mode=mode)
        said = b.run(code=1)
        assert words in said and s.url() in said, (text, said)
        assert b.look()[0] == 0

    def shifted(reply):
        begin, end = reply.wanted()
        if begin == 0:
            return reply.good()
        reply.head(206, end - begin, Content_Range=f"bytes {begin - 1}-{end - 2}/{len(reply.data)}")
        reply.body(reply.data[begin - 1:end - 1])
    s.answer = shifted
    said = b.run(code=1)
    assert "were asked for" in said, said


@both_modes
def files_that_changed_are_told(b, s, mode):
    b.configure(s.url("/models/wan"), mode=mode)
    s.answer = lambda reply: reply.status(404) if VAE in reply.request.path else reply.good()
    said = b.run(code=1)
    assert f"'{s.url('/models/wan/' + VAE)}': there is no such file (HTTP 404)" in said, said

    def longer(reply):
        if VAE in reply.request.path:
            reply.data += b"x"
        reply.good()
    s.answer = longer
    size = len(b.true_bytes(VAE))
    said = b.run(code=1)
    assert f"has {size + 1} bytes, the manifest says {size}" in said, said

    def encoded(reply):
        begin, end = reply.wanted()
        reply.head(206, end - begin, Content_Encoding="gzip", Content_Range=f"bytes {begin}-{end - 1}/{len(reply.data)}")
        reply.body(reply.data[begin:end])
    s.answer = lambda reply: encoded(reply) if VAE in reply.request.path else reply.good()
    said = b.run(code=1)
    assert "encoded ('gzip')" in said, said


def manifests_are_checked(b):
    with Server(b.site) as s:
        b.configure(s.url("/models/other"))
        said = b.run("--fetch", code=1)
        assert f"'{s.url('/models/other/preheat.manifest')}': there is no such file" in said, said
        s.answer = lambda reply: reply.status(200)
        b.configure(s.url("/models/wan"))
        said = b.run("--fetch", code=1)
        assert "too few for a manifest" in said and s.url() in said, said
        s.answer = lambda reply: (reply.head(200, 1 << 40), reply.body(bytes(100)))
        said = b.run("--fetch", code=1)
        assert "more than the 536870912 bytes" in said, said
        data = bytearray((b.root / "preheat.manifest").read_bytes())
        data[200] ^= 1
        (b.root / "preheat.manifest").write_bytes(data)
        s.answer = lambda reply: reply.good()
        said = b.run("--fetch", code=1)
        assert "its digest is" in said, said
        assert not b.kept.exists()


def digest_is_pinned(b):
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"), model={"manifest_digest": "0" * 32})
        said = b.run(code=1)
        assert f"has the digest {b.manifest.digest}" in said and "0" * 32 in said and s.url() in said, said
        assert not b.kept.exists()
        b.configure(s.url("/models/wan"), model={"manifest_digest": b.manifest.digest})
        b.run()
        s.forget()
        b.run("--fetch")
        assert not s.seen()  # it is known already


def new_manifest_replaces_the_old_one(b):
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"))
        b.run()
        path = b.root / DIT  # as many bytes, others
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        b.publish()
        s.forget()
        assert "has the digest" in b.run("--fetch")
        b.check_cache()
        last = b.manifest.of(DIT)[0][1], max(at + size for _, at, size, _ in b.manifest.of(DIT))
        assert len(weights_of(s)) == 1 and weights_of(s)[0].range[1] == last[1], weights_of(s)
        b.run()


def another_source_is_another_model(b):
    shutil.copytree(b.root, b.site / "other")
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"))
        b.run()
        b.configure(s.url("/other"))
        s.forget()
        b.segment.unlink()
        said = subprocess.run(b.command("--print-hugepages"), capture_output=True, text=True).stderr
        assert "was not fetched yet" in said and s.url("/models/wan") in said, said
        b.run()
        assert [r.name for r in s.seen()] == ["preheat.manifest"], s.seen()  # the same files: looked at, not fetched


def redirects_stay_with_http(b):
    with Server(b.site) as s, Server(b.site) as t:
        def go(where):
            s.answer = lambda reply: reply.status(302, Location=where(reply.request.path))
        b.configure(s.url("/models/wan"), connections=2)
        for target in ("file:///etc/passwd", "ftp://localhost/x", "gopher://localhost/x", "smb://localhost/x"):
            go(lambda path: target)
            said = b.run("--fetch", code=1)
            assert s.url() in said and "rotocol" in said, said
        go(lambda path: f"http://user:secret@localhost:{t.port}{path}")
        said = b.run("--fetch", code=1)
        assert "secret" not in said and not t.seen(), said
        go(lambda path: s.url(path))
        said = b.run("--fetch", code=1)
        assert "redirects" in said, said
        go(lambda path: t.url(path))
        b.run("--fetch", token="s3cret\n")
        assert {r.headers.get("Authorization") for r in s.seen("preheat.manifest")[-1:]} == {"Bearer s3cret"}
        assert {r.headers.get("Authorization") for r in t.seen()} == {None}, "the token went to another host"
        b.check_cache()


def token_is_sent(b):
    with Server(b.site) as s:
        s.answer = lambda reply: (reply.good() if reply.request.headers.get("Authorization") == "Bearer s3cret"
                                  else reply.status(401))
        b.configure(s.url("/models/wan"), mode="direct")
        said = b.run(code=1)
        assert "access is refused (HTTP 401)" in said, said
        said = b.run(code=1, token="wrong\n")
        assert "s3cret" not in said and "wrong" not in said
        b.run(token="s3cret\n")
        b.configure("http://198.51.100.1/models")
        said = b.run("--fetch", code=1, token="s3cret")
        assert "a token goes to https:// only" in said, said


class Slow:
    """Serves until a number of chunks of weights has gone out, then waits to be let go."""

    def __init__(self, server, n):
        self.n, self.left, self.reached, self.go = 0, n, threading.Event(), threading.Event()
        self.lock = threading.Lock()
        server.answer = self.answer

    def answer(self, reply):
        if ".safetensors" in reply.request.path:
            with self.lock:
                self.n += 1
                over = self.n > self.left
            if over:
                self.reached.set()
                self.go.wait(30)
        reply.good()


def killed_and_resumed(b):
    for mode in ("cache", "direct"):
        for n in (1, 3, 5):
            with Server(b.site) as s:
                slow = Slow(s, n)
                b.configure(s.url("/models/wan"), mode=mode, connections=1)
                process = subprocess.Popen(b.command(), stderr=subprocess.DEVNULL)
                assert slow.reached.wait(20)
                time.sleep(0.3)  # what came is verified by then
                process.kill()
                process.wait()
                slow.go.set()
                ready = b.look()[0]
                time.sleep(0.1)
                s.answer = lambda reply: reply.good()
                s.forget()
                b.run()
                asked = sorted(r.range for r in weights_of(s))
                assert len(asked) <= len(b.manifest.chunks) - n, (mode, n, asked)
                assert mode == "cache" or ready == n, (ready, n)
            b.done()
            shutil.rmtree(b.here)
            b.here.mkdir()


def killed_at_any_moment(b):
    """Whatever is in memory or in the cache then, the next run gets right."""
    chance = random.Random(7)

    def answer(reply):
        if ".safetensors" in reply.request.path:
            time.sleep(0.02)
        reply.good()
    with Server(b.site) as s:
        s.answer = answer
        for mode in ("direct", "cache"):
            b.configure(s.url("/models/wan"), mode=mode, connections=2)
            partial = 0
            for _ in range(10):
                shutil.rmtree(b.here)
                b.here.mkdir()
                b.done()
                for _ in range(2):
                    s.forget()
                    n = chance.randrange(len(b.manifest.chunks) + 1)
                    process = subprocess.Popen(b.command(), stderr=subprocess.DEVNULL)
                    while len(weights_of(s)) < n and process.poll() is None:
                        time.sleep(0.001)
                    time.sleep(chance.uniform(0, 0.02))
                    process.kill()
                    process.wait()
                    partial += 0 < b.look()[0] < len(b.manifest.chunks) or bool(list(b.kept.rglob("*.part")))
                b.run()
            assert partial > 0
            b.done()


def terminated_keeps_what_is_there(b):
    for mode in ("cache", "direct"):
        with Server(b.site) as s:
            slow = Slow(s, 2)
            b.configure(s.url("/models/wan"), mode=mode, connections=1, stall_timeout="1h")
            process = subprocess.Popen(b.command(), stderr=subprocess.PIPE, text=True)
            assert slow.reached.wait(20)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=10)[1]
            assert time.monotonic() - began < 3 and "told to stop" in said, said
            assert process.returncode == -signal.SIGTERM
            slow.go.set()
            b.look()
        b.done()
        shutil.rmtree(b.here)
        b.here.mkdir()


# In namespaces of its own: a name server on port 53 that takes questions and answers none. Told to stop while it waits
# for an answer, the program must not wait for the resolver's own patience.
SILENT = """
import signal, socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
server.settimeout(20)
process = subprocess.Popen(sys.argv[2:])
server.recv(512)
began = time.monotonic()
process.send_signal(signal.SIGTERM)
assert process.wait(20) == -signal.SIGTERM, process.returncode
print(f"{time.monotonic() - began:.2f}")
"""


def silent_name_servers_are_not_waited_for(b):
    resolver = b.work / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:2\n")
    spaces = ["unshare", "--user", "--map-root-user", "--mount", "--net"]
    if subprocess.run([*spaces, "ip", "link"], capture_output=True).returncode:
        raise Skip("no namespaces to be had, or no 'ip'")
    b.configure("http://models.example/wan")
    done = subprocess.run([*spaces, sys.executable, "-c", SILENT, resolver, *b.command("--fetch")], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and float(done.stdout) < 2, done


def endings_of_unknown_answers_are_counted(b):
    """An answer that does not say its length begins anew each time: how far an earlier one came is no progress."""
    lengths = []

    def answer(reply):
        lengths.append(20_000 if len(lengths) % 2 == 0 else 10_000)
        reply.handler.send_response(200)
        reply.handler.send_header("Transfer-Encoding", "chunked")
        reply.handler.end_headers()
        reply.handler.wfile.write(b"%x\r\n" % len(reply.data))
        reply.body(reply.data[:lengths[-1]])
        reply.hang_up()
    with Server(b.site) as s:
        assert (b.root / "preheat.manifest").stat().st_size > 20_000
        s.answer = answer
        b.configure(s.url("/models/wan"), retries=3)
        said = b.run("--fetch", code=1, seconds=20)
        assert "broke off after" in said and len(lengths) == 4, (said, lengths)


def damage_in_the_cache_is_mended(b):
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"))
        b.run("--fetch")
        path = b.files / DIT
        with open(path, "r+b") as f:
            f.seek(b.manifest.of(DIT)[1][1] + 5)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 8]))
        said = b.run(code=1)
        assert DIT in said and "the next fetch mends it" in said, said
        s.forget()
        b.run()
        name, at, size, _ = b.manifest.of(DIT)[1]
        assert [r.range for r in weights_of(s)] == [(at, at + size)], weights_of(s)
        b.check_cache()


def two_at_a_time_are_one_too_many(b):
    with Server(b.site) as s:
        slow = Slow(s, 1)
        b.configure(s.url("/models/wan"), connections=1)
        process = subprocess.Popen(b.command("--fetch"), stderr=subprocess.DEVNULL)
        assert slow.reached.wait(20)
        said = b.run("--fetch", code=1)
        assert "another process is fetching" in said and str(b.files) in said, said
        slow.go.set()
        assert process.wait(20) == 0


def full_disk_is_told(b):
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size="$SIZE" tmpfs {b.here} && exec "$@"', "sh"]
    if subprocess.run(mount + ["true"], env=dict(os.environ, SIZE="1m"), capture_output=True).returncode:
        raise Skip("cannot mount here")
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"))
        said = b.run("--fetch", code=1, wrap=["env", "SIZE=6m", *mount])
        assert re.search(r"needs room for \d+ MiB more, there are \d MiB", said) and str(b.files) in said, said
        assert not weights_of(s)
        slow = Slow(s, 1)
        process = subprocess.Popen(b.command("--fetch", wrap=["env", "SIZE=20m", *mount]), stderr=subprocess.PIPE,
                                   text=True)
        assert slow.reached.wait(20)
        inside = pathlib.Path(f"/proc/{process.pid}/root{b.here}")
        free = os.statvfs(inside)
        (inside / "filler").write_bytes(bytes((free.f_bavail * free.f_frsize) - (1 << 20)))
        slow.go.set()
        said = process.communicate(timeout=30)[1]
        assert process.returncode == 1 and "No space left on device" in said and ".part" in said, said


@contextlib.contextmanager
def certificate(work):
    ca, key = work / "ca.pem", work / "server.pem"
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                           "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", ca], capture_output=True)
    if made.returncode:
        raise Skip("no openssl to make a certificate with")
    key.write_bytes(key.read_bytes() + ca.read_bytes())
    yield ca, key


def certificates_are_checked(b):
    with certificate(b.work) as (ca, key), Server(b.site, key) as s, Server(b.site) as plain:
        b.configure(s.url("/models/wan"), ca_file=ca)
        b.run("--fetch", token="s3cret")
        b.check_cache()
        assert s.seen()[0].headers["Authorization"] == "Bearer s3cret"
        b.configure(s.url("/models/wan"), model={"name": "again"})
        said = b.run("--fetch", code=1)
        assert "certificate" in said and s.url() in said, said
        b.configure(f"https://127.0.0.1:{s.port}/models/wan", model={"name": "again"}, ca_file=ca)
        assert "127.0.0.1" in b.run("--fetch", code=1)  # the certificate is for another name
        b.configure(s.url("/models/wan"), model={"name": "again"}, ca_file=ca)
        s.answer = lambda reply: reply.status(302, Location=plain.url(reply.request.path))
        said = b.run("--fetch", code=1)
        assert "rotocol" in said and not plain.seen(), said
        b.configure(s.url("/models/wan"), model={"name": "again"}, ca_file="/nonexistent.pem")
        assert "/nonexistent.pem" in b.run("--fetch", code=1)


def object_store_requests_are_signed(b):
    prefix = "models of 2026/wan+v2"
    (b.site / "bucket" / "models of 2026").mkdir(parents=True)
    shutil.copytree(b.root, b.site / "bucket" / prefix)
    keys = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
    with Server(b.site) as s:
        s.answer = lambda reply: (reply.good() if signature_is_right(reply.request, keys, "eu-central-1")
                                  else reply.status(403))
        for mode in ("cache", "direct"):
            b.configure(f"s3://bucket/{prefix}", mode=mode, endpoint=s.url(), region="eu-central-1")
            said = b.run(key="AKIDEXAMPLE\nwrong\n", code=1)
            assert "access is refused (HTTP 403)" in said and "wrong" not in said, said
            b.run(key="AKIDEXAMPLE\nwJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n")
            assert all(r.path.startswith(f"/bucket/{prefix}/") for r in s.seen()), s.seen()
            assert s.seen()[-1].headers.get("X-Amz-Security-Token") is None
            b.done()
            shutil.rmtree(b.here)
            b.here.mkdir()
        s.forget()
        b.run(key="AKIDEXAMPLE\nwJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\nsession==\n")
        assert {r.headers["X-Amz-Security-Token"] for r in s.seen()} == {"session=="}
        b.configure(f"s3://bucket/{prefix}", model={"name": "again"}, endpoint=s.url(), region="us-east-1")
        assert "HTTP 403" in b.run("--fetch", code=1)  # signed for another region
        b.run("--fetch", key="AKIDEXAMPLE\n", code=1)
        s.answer = lambda reply: reply.status(301, Location="http://localhost:1/")
        said = b.run("--fetch", key="AKIDEXAMPLE\nx\n", code=1)
        assert "are endpoint and region right?" in said, said
        s.answer = lambda reply: (reply.good() if "Authorization" not in reply.request.headers else reply.status(403))
        b.run("--fetch", key="")  # a public bucket


def daemon_says_what_is_missing(b):
    with Server(b.site) as s, Place(MODEL, MEDIA) as place:
        place.state = b.here

        def reason(mode):
            with Daemon(PREHEATD, place, **b.configure(s.url("/models/wan"), mode=mode)) as d:
                return d.refusal()

        def serves(mode):
            with Daemon(PREHEATD, place, **b.configure(s.url("/models/wan"), mode=mode)) as d:
                video = d.wait(d.create(num_inference_steps=1, num_frames=1, size="64x64"))
                assert video["status"] == "completed", video
        assert f"the manifest of '{s.url('/models/wan')}' was not fetched yet" in reason("direct")
        doctor = subprocess.run([CTL, "--config", b.work / "preheat.conf", "doctor", "--preheatd", PREHEATD],
                                capture_output=True, text=True)
        assert "systemctl enable preheat-fetch" in doctor.stdout, doctor
        b.configure(s.url("/models/wan"), mode="direct")
        b.run()
        serves("direct")
        common = (CTL, "--config", b.work / "preheat.conf")
        status = subprocess.run([*common, "status"], capture_output=True, text=True)
        assert s.url("/models/wan") in status.stdout, status
        b.done()
        said = reason("direct")
        assert s.url("/models/wan") in said and "not in memory" in said, said
        said = reason("cache")
        assert "was not fetched whole" in said and s.url("/models/wan") in said, said
        b.configure(s.url("/models/wan"))
        b.run("--fetch")
        serves("cache")
        status = subprocess.run([*common, "status"], capture_output=True, text=True)
        assert str(b.files) in status.stdout, status


def waiting_is_told_to_systemd(b):
    """A start that waits for a busy server is not hung."""
    with Server(b.site) as s, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus:
        bus.bind(str(b.work / "notify"))
        s.answer = lambda reply: reply.status(503, Retry_After="3") if len(s.seen()) == 1 else reply.good()
        b.configure(s.url("/models/wan"))
        env = dict(os.environ, NOTIFY_SOCKET=str(b.work / "notify"))
        process = subprocess.Popen(b.command("--fetch"), env=env, stderr=subprocess.DEVNULL)
        bus.settimeout(0.2)
        told = []
        while process.poll() is None:
            with contextlib.suppress(TimeoutError):
                told.append(bus.recv(4096).decode())
        assert process.returncode == 0
        waited = told[:[i for i, t in enumerate(told) if "fetching: " in t][0]]
        assert sum("EXTEND_TIMEOUT_USEC=" in t for t in waited) >= 2 and "STATUS=fetching the manifest" in waited, told


def reserve_waits_for_the_manifest(b):
    b.configure("http://localhost:1/models/wan", warmup={"reserve": "none"})
    assert "was not fetched yet" in b.run("--reserve")
    with Server(b.site) as s:
        b.configure(s.url("/models/wan"), warmup={"reserve": "none"}, mode="direct")
        b.run("--fetch")
        assert [r.name for r in s.seen()] == ["preheat.manifest"]
        assert "are needed" in b.run("--reserve")
        assert os.stat(b.kept / "manifest").st_mode & 0o777 == 0o640
        assert "mode is direct" in b.run("--verify", code=1)


CASES = [direct_leaves_the_disk_alone, cache_is_filled_once, official_files_come_as_they_are,
         dropped_connections_are_taken_up, short_answers_go_on,
         answers_that_promise_more_are_taken_up, answers_without_bytes_are_given_up, wrong_bytes_are_fetched_again,
         wrong_bytes_for_ever_are_never_handed_out,
         busy_servers_are_waited_for, servers_that_stay_busy_are_given_up, ranges_ignored, ranges_ignored_and_dropped,
         whole_files_that_are_wrong_wait_longer_each_time,
         stalls_are_broken_off, bandwidth_is_kept, ranges_that_do_not_fit_are_refused, files_that_changed_are_told,
         manifests_are_checked, digest_is_pinned, new_manifest_replaces_the_old_one, another_source_is_another_model,
         redirects_stay_with_http, token_is_sent, killed_and_resumed, killed_at_any_moment, terminated_keeps_what_is_there,
         silent_name_servers_are_not_waited_for, endings_of_unknown_answers_are_counted,
         damage_in_the_cache_is_mended, two_at_a_time_are_one_too_many, full_disk_is_told, certificates_are_checked,
         object_store_requests_are_signed, daemon_says_what_is_missing, waiting_is_told_to_systemd,
         reserve_waits_for_the_manifest]

results = []
for case in CASES:
    if sys.argv[6:] and case.__name__ not in sys.argv[6:]:
        continue
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="preheat-sources-") as work:
        bench = Bench(pathlib.Path(work).resolve())
        try:
            case(bench)
            results.append("ok")
            print(f"ok {case.__name__} ({time.monotonic() - began:.2f} s)")
        except Skip as why:
            results.append("skip")
            print(f"skip {case.__name__}: {why}")
        except Exception:
            results.append("not ok")
            print(f"not ok {case.__name__}")
            traceback.print_exc(file=sys.stdout)
        finally:
            bench.done()
    sys.stdout.flush()
sys.exit(1 if "not ok" in results else 0 if "ok" in results else 77)
