"""test-bad-input PREHEATD PREHEAT-MEDIA MODEL LOST-BACKEND [CASE]... - what can go wrong, done to the real daemon: each time the
reason names what was found and what is wanted, and the daemon serves on. Exits 77 when all cases asked for were skipped.
"""
import json
import http.client
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

from daemon import Daemon, Place

PREHEATD, MEDIA, MODEL, LOST_BACKEND = map(os.path.abspath, sys.argv[1:5])
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


class Skip(Exception):
    pass


def rewrite(path, data):
    path.unlink()  # it is a link to the real one
    path.write_bytes(data)


def header_of(data):
    n = struct.unpack("<Q", data[:8])[0]
    return n, json.loads(data[8:8 + n])


def refusal(place, **sections):
    """What a daemon that starts like this answers; it must leave cleanly all the same."""
    with Daemon(PREHEATD, place, **sections) as d:
        reason = d.refusal()
        status, health = d.ask("GET", "/healthz")
        assert status == 503 and health["reason"] == reason, health
        assert reason in d.said(), d.said()
        return reason


def serves(d):
    video = d.wait(d.create(num_inference_steps=1, num_frames=1, size="64x64"))
    assert video["status"] == "completed", video


def error_of(answer, status, code, param, *words):
    found, body = answer
    assert found == status and body["error"]["code"] == code and body["error"]["param"] == param, answer
    for word in words:
        assert word in body["error"]["message"], (word, body)


def missing_file():
    with Place(MODEL, MEDIA) as place:
        (place.copy_model() / TRANSFORMER).unlink()
        reason = refusal(place)
        assert str(place.model) in reason and TRANSFORMER in reason, reason
    with Place(MODEL, MEDIA) as place:
        reason = refusal(place, model={"path": "/nonexistent/model"})
        assert "'/nonexistent/model'" in reason, reason


def truncated_shard():
    with Place(MODEL, MEDIA) as place:
        path = place.copy_model() / VAE
        rewrite(path, path.read_bytes()[:-4096])
        reason = refusal(place)
        assert VAE in reason and "tensor '" in reason and f"of {path.stat().st_size - 8 - header_of(path.read_bytes())[0]} data bytes" in reason, reason


def wrong_shape():
    with Place(MODEL, MEDIA) as place:
        path = place.copy_model() / TRANSFORMER
        data = path.read_bytes()
        n, header = header_of(data)
        header["proj_out.weight"]["shape"].reverse()
        rewrite(path, data[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(n) + data[8 + n:])
        reason = refusal(place)
        assert "tensor 'proj_out.weight' is [160,64]" in reason and "wants [64,160]" in reason, reason
        assert TRANSFORMER in reason, reason


def nan_weights():
    with Place(MODEL, MEDIA) as place:
        path = place.copy_model() / TRANSFORMER
        data = bytearray(path.read_bytes())
        n, header = header_of(data)
        at = 8 + n + header["proj_out.weight"]["data_offsets"][0]
        data[at:at + 2] = b"\xc0\x7f"  # a NaN in bf16
        rewrite(path, data)
        with Daemon(PREHEATD, place) as d:
            video = d.wait(d.create(num_inference_steps=1))
            assert video["status"] == "failed" and "NaN" in video["error"]["message"], video
            assert f"'{TRANSFORMER}': tensor 'proj_out.weight' has a NaN" in video["error"]["message"], video
            d.wait_said(video["error"]["message"])


def nan_weights_known_to_the_manifest():
    with Place(MODEL, MEDIA) as place:
        path = place.copy_model() / VAE
        data = bytearray(path.read_bytes())
        n, header = header_of(data)
        at = 8 + n + header["decoder.conv_out.weight"]["data_offsets"][0]
        data[at:at + 2] = b"\xc0\x7f"
        rewrite(path, data)
        model = {"name": f"nan-{os.getpid()}", "segment": place.path / f"nan-{os.getpid()}"}
        warmup = [os.path.join(os.path.dirname(PREHEATD), "preheat-warmup"), "--config", place.configure({"model": model})]
        warm = subprocess.run(warmup, capture_output=True, text=True)
        reason = refusal(place, model=model)
        subprocess.run([*warmup, "--evict"], check=True, capture_output=True)
        assert f"'{VAE}': tensor 'decoder.conv_out.weight' has 1 values that are NaN" in reason, (reason, warm)


def unknown_config_key():
    with Place(MODEL, MEDIA) as place:
        reason = refusal(place, daemon={"idle_exti": "10s"})
        assert "preheat.conf:" in reason and "[daemon] has no key 'idle_exti', it has: idle_exit, " in reason, reason
        reason = refusal(place, daemon={"idle_exit": "9s"})
        assert "idle_exit = '9s', allowed is a time from 10s" in reason, reason


def command_lines():
    """A task takes --config wherever it stands; what cannot be printed is a failure."""
    with Place(MODEL, MEDIA) as place:
        config = str(place.configure({"backend": {"module": place.path / "no-module"}}))
        for words, status, said in ((["--print-versions", "--config", config], 0, ""),
                                    (["--print-versions", "--config", "/nonexistent"], 1, "'/nonexistent'"),
                                    (["--print-lock", "module", "more"], 2, "unexpected argument 'more'"),
                                    (["serve"], 2, "unexpected argument 'serve'"),
                                    (["--never"], 2, "--debug"), (["--config"], 2, "--debug")):
            done = subprocess.run([PREHEATD, *words], capture_output=True, text=True)
            assert done.returncode == status and said in done.stderr, (words, done)
        with open("/dev/full", "w") as full:
            done = subprocess.run([PREHEATD, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "cannot write" in done.stderr, done


def token_that_is_none():
    """What an operator must mend does not end the daemon; nobody gets in without the token meanwhile."""
    with Place(MODEL, MEDIA) as place:
        file = place.path / "preheat.api-token"
        for text, words in (("t" * 5000, ("5000", "4096")), ("\n", ("is empty",)), ("two words\n", ("0x20", "at 3"))):
            file.write_text(text)
            d = Daemon(PREHEATD, place)
            d.environment["CREDENTIALS_DIRECTORY"] = str(place.path)
            with d:
                reason = d.refusal()
                assert "preheat.api-token" in reason and all(word in reason for word in words), (text[:20], reason)
                assert d.ask("GET", "/v1/videos")[0] == 503 and d.ask("GET", "/healthz")[0] == 503
        file.write_text("s3cret\n")
        d = Daemon(PREHEATD, place)
        d.environment["CREDENTIALS_DIRECTORY"] = str(place.path)
        with d:
            assert d.ask("GET", "/v1/videos")[0] == 401
            assert d.ask("GET", "/v1/videos", headers={"Authorization": "Bearer s3cret"})[0] == 200


def mended_configuration_is_read_at_a_reload():
    """Whatever it refuses requests for: it leaves for the next process, which begins with the new file."""
    bad = ({"daemon": {"ladder": "steps:many"}}, {"model": {"path": "/nonexistent/model"}},
           {"jobs": {"state_dir": "/nonexistent/state"}}, {"daemon": {"idle_exit": "9s"}})
    with Place(MODEL, MEDIA) as place:
        for sections in bad:
            with Daemon(PREHEATD, place, **sections) as d:
                d.refusal()
                d.config.write_bytes(place.configure({}).read_bytes())
                d.process.send_signal(signal.SIGHUP)
                assert d.process.wait(20) == 0, d.said()
                d.start()
                serves(d)


def requests_beyond_limits():
    table = (({"prompt": "x" * 201}, "prompt", ("201", "200")),
             ({"size": "130x128"}, "size", ("130", "32")),
             ({"width": 100}, "width", ("100", "32")),
             ({"num_frames": 37}, "num_frames", ("37", "33")),
             ({"num_frames": 18}, "num_frames", ("18",)),
             ({"num_inference_steps": 101}, "num_inference_steps", ("101", "100")),
             ({"size": "512x512"}, "size", ("512", "65536")))
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place, limits={
            "max_prompt_chars": 200, "max_frames": 33, "max_pixels": 65536}) as d:
        for fields, param, words in table:
            error_of(d.ask("POST", "/v1/videos", {"prompt": "a", **fields}), 400, "invalid_value", param, *words)
        serves(d)


def queue_full():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place, daemon={"queue_limit": "2"}) as d:
        first = d.create(num_inference_steps=100, size="256x256")
        d.wait(first, "in_progress")
        waiting = [d.create(), d.create()]
        error_of(d.ask("POST", "/v1/videos", {"prompt": "a"}), 429, "queue_full", None, "2")
        for video in (*waiting, first):
            assert d.ask("DELETE", f"/v1/videos/{video['id']}")[0] == 200
        serves(d)


def disk_full_while_encoding():
    with Place(MODEL, MEDIA) as place:
        mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=2m tmpfs {place.state} && exec "$@"', "sh"]
        probe = subprocess.run([*mount, "true"], capture_output=True, text=True)
        if probe.returncode:
            raise Skip(f"cannot mount here: {probe.stderr.strip()}")
        with Daemon(PREHEATD, place, wrap=mount) as d:
            serves(d)
            state = pathlib.Path(f"/proc/{d.process.pid}/root{place.state}")
            free = os.statvfs(state)
            (state / "filler").write_bytes(bytes(max(free.f_bavail * free.f_frsize - (56 << 10), 0)))
            video = d.wait(d.create("a red circle", num_inference_steps=1, num_frames=121))
            assert video["status"] == "failed", video
            assert video["error"]["code"] == "storage_full" and "the disk is full" in video["error"]["message"], video
            (state / "filler").unlink()
            serves(d)


def media_child_killed():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place) as d:
        for name in (signal.SIGKILL, signal.SIGSEGV):
            video = d.create(num_inference_steps=1, num_frames=121)
            end = time.monotonic() + 60
            while not (children := d.children()):
                assert time.monotonic() < end, d.get(video)
                time.sleep(0.002)
            os.kill(children[0], name)
            video = d.wait(video)
            assert video["status"] == "failed", video
            assert "preheat-media" in video["error"]["message"] and str(int(name)) in video["error"]["message"], video
        serves(d)
        assert d.children() == []
    with Place(MODEL, "/nonexistent/preheat-media") as place, Daemon(PREHEATD, place) as d:
        video = d.wait(d.create(num_inference_steps=1))
        assert video["status"] == "failed" and "/nonexistent/preheat-media" in video["error"]["message"], video


def backend_lost():
    with Place(MODEL, MEDIA) as place:
        os.environ["PREHEAT_TEST_LOST"] = str(place.path / "lost")
        with Daemon(PREHEATD, place, backend={"kind": "cuda", "module": LOST_BACKEND}) as d:
            serves(d)
            video = d.create(num_inference_steps=100, size="256x256")
            d.wait(video, "in_progress")
            waiting = d.create(num_inference_steps=1)
            idle = http.client.HTTPConnection("127.0.0.1", d.port)  # stays open: it must not make a success of the end
            idle.request("GET", "/v1/videos")
            idle.getresponse().read()
            (place.path / "lost").write_text("")
            assert d.process.wait(60) == 1, d.said()
            idle.close()
            assert "The device is lost" in d.said(), d.said()
            (place.path / "lost").unlink()
            d.start()
            assert d.wait(waiting)["status"] == "completed"
            video = d.get(video)
            assert video["status"] == "failed" and video["error"]["code"] == "device_lost", video


def client_gone_mid_download():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place) as d:
        video = d.wait(d.create(num_inference_steps=1))
        request = f"GET /v1/videos/{video['id']}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", d.port)) as c:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
                c.sendall(request)
                c.recv(100)
        status, data = d.ask("GET", f"/v1/videos/{video['id']}/content")
        assert status == 200 and data[4:8] == b"ftyp", status
        serves(d)


def two_daemons_on_one_state_directory():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place) as first:
        serves(first)
        reason = refusal(place)
        assert f"'{place.state}'" in reason and f"process {first.process.pid}" in reason, reason
        serves(first)


def killed_daemon_finishes_its_job_the_next_time():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place) as d:
        video = d.create(num_inference_steps=100)
        d.wait(video, "in_progress")
        d.process.kill()
        d.process.wait()
        d.start()
        assert d.wait(video)["status"] == "completed", d.get(video)


def model_is_described():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place) as d:
        serves(d)
        models = d.ask("GET", "/v1/models")[1]["data"]
        assert models == [{"id": "tiny-wan", "object": "model", "created": int(os.stat(MODEL).st_mtime),
                           "owned_by": "preheat"}], models
        error_of(d.ask("GET", "/v1/models/" + "x" * 300), 404, "model_not_found", "model", "'" + "x" * 60 + "'")


def hosts_behind_a_proxy():
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place, daemon={"allowed_hosts": "video.example"}) as d:
        assert d.ask("GET", "/v1/videos", headers={"Host": "video.example"})[0] == 200
        status, body = d.ask("GET", "/v1/videos", headers={"Host": "evil.example"})
        assert status == 403 and "'evil.example'" in body["error"]["message"], body


def a_default_negative_prompt_is_meant():
    """The same seed: the default given by the configuration, the same one given by the client, and none."""
    video = {"prompt": "a red circle moving right", "seed": 5, "size": "64x64", "num_frames": 5, "num_inference_steps": 3}
    with Place(MODEL, MEDIA) as place, Daemon(PREHEATD, place, defaults={"negative_prompt": "a blue square"}) as d:
        jobs = [d.wait(d.create(**video, **negative)) for negative in
                ({}, {"negative_prompt": "a blue square"}, {"negative_prompt": ""})]
        made = [d.ask("GET", f"/v1/videos/{job['id']}/content")[1] for job in jobs]
        assert made[0] == made[1] != made[2], jobs


def state_that_cannot_be_written():
    with Place(MODEL, MEDIA) as place:
        (place.path / "file").write_text("")
        reason = refusal(place, jobs={"state_dir": place.path / "file"})
        assert f"{place.path / 'file'}" in reason, reason


CASES = (missing_file, truncated_shard, wrong_shape, nan_weights, nan_weights_known_to_the_manifest,
         unknown_config_key, command_lines, token_that_is_none,
         mended_configuration_is_read_at_a_reload, requests_beyond_limits, queue_full,
         disk_full_while_encoding, media_child_killed, backend_lost, client_gone_mid_download, two_daemons_on_one_state_directory,
         killed_daemon_finishes_its_job_the_next_time, model_is_described, hosts_behind_a_proxy,
         a_default_negative_prompt_is_meant, state_that_cannot_be_written)

results = []
for case in CASES:
    if sys.argv[5:] and case.__name__ not in sys.argv[5:]:
        continue
    began = time.monotonic()
    try:
        case()
        results.append("ok")
        print(f"ok {case.__name__} ({time.monotonic() - began:.2f} s)")
    except Skip as why:
        results.append("skip")
        print(f"skip {case.__name__}: {why}")
    except Exception:
        results.append("not ok")
        print(f"not ok {case.__name__}")
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
sys.exit(1 if "not ok" in results else 0 if "ok" in results else 77)
