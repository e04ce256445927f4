#!/usr/bin/env python3
"""Seconds that a request waits when nothing runs, against the same request on a running daemon.

  bench-coldstart.py --build DIR --model DIR [--module SO] [--segment FILE] [--size WxH] [--frames N] [--steps N] [--rounds N]

Stands in for systemd: holds the listening socket, starts preheatd with it when the request has been sent, and measures from the
connection on. Each round: one cold request (process start included), then one hot one with the same seed; both files must be
equal. With --segment the weights come from the file that preheat-warmup filled, else from the checkpoint's files, whose pages
are in the page cache after the first round. Prints one line a round, then medians, worst and the penalty as JSON.
"""
import argparse
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


def config(a, directory):
    text = f"""[model]
name = bench
path = {a.model}
segment = {a.segment or directory + "/none"}
[backend]
kind = {"cuda" if a.module else "cpu"}
{f"module = {a.module}" if a.module else ""}
{f"vram_limit = {a.vram_limit}" if a.vram_limit else ""}
[jobs]
state_dir = {directory}/state
[media]
program = {a.build}/daemon/preheat-media
"""
    os.makedirs(directory + "/state", exist_ok=True)
    path = directory + "/preheat.conf"
    with open(path, "w") as f:
        f.write(text)
    return path


def start(a, path, listener, log):
    def hand_over():
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http")

    program = a.build + "/daemon/preheatd"
    pid = os.fork()
    if pid == 0:
        os.dup2(log.fileno(), 2)
        hand_over()
        os.execv(program, [program, "--config", path])
    return pid


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:400]!r}")
        return data


def request(a, port, begin=None):
    """Seconds to the first step and to the last byte, from the connection on; the finished job and the file's digest."""
    body = dict(prompt="a red circle moving right on a black background", seed=7, size=a.size, num_frames=a.frames,
                num_inference_steps=a.steps, guidance_scale=a.guidance)
    began = time.perf_counter()
    client = Client(port)
    client.connection.connect()
    if begin:
        begin()
    job = json.loads(client.ask("POST", "/v1/videos", body))
    first = None
    while job["status"] in ("queued", "in_progress"):
        job = json.loads(client.ask("GET", f"/v1/videos/{job['id']}"))
        if first is None and (job["phase"] == "denoising" and (job.get("step") or 0) >= 1 or job["phase"] in ("decoding", "done")):
            first = time.perf_counter() - began
        time.sleep(0.002)
    if job["status"] != "completed":
        raise SystemExit(json.dumps(job["error"]))
    data = client.ask("GET", f"/v1/videos/{job['id']}/content")
    total = time.perf_counter() - began
    start_report = json.loads(client.ask("GET", "/healthz"))["detail"]
    return dict(first_step=first, total=total, digest=hashlib.sha256(data).hexdigest(), job=job, start=start_report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--module")
    parser.add_argument("--segment")
    parser.add_argument("--vram-limit")
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    a = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="preheat-coldstart-")
    path = config(a, directory)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = listener.getsockname()[1]
    cold, hot = [], []
    with open(directory + "/log", "w") as log:
        for i in range(a.rounds):
            pids = []
            c = request(a, port, lambda: pids.append(start(a, path, listener, log)))
            h = request(a, port)
            os.kill(pids[0], signal.SIGTERM)
            os.waitpid(pids[0], 0)
            steps = {s["name"]: round(s["end"] - s["start"], 3) for s in c["start"]["start"]}
            print(f"round {i}: cold {c['total']:.3f} s (first step {c['first_step']:.3f}), hot {h['total']:.3f} s"
                  f" (first step {h['first_step']:.3f}), weights {c['start'].get('weights')}, {c['start'].get('residency')},"
                  f" {'same bytes' if c['digest'] == h['digest'] else 'BYTES DIFFER'}, start {steps},"
                  f" stages {c['job']['stage_seconds']} / {h['job']['stage_seconds']}", flush=True)
            cold.append(c)
            hot.append(h)
    median = lambda runs, key: sorted(r[key] for r in runs)[len(runs) // 2]
    print(json.dumps(dict(
        rounds=a.rounds, size=a.size, frames=a.frames, steps=a.steps, segment=bool(a.segment),
        cold_total_s=round(median(cold, "total"), 3), cold_worst_s=round(max(r["total"] for r in cold), 3),
        hot_total_s=round(median(hot, "total"), 3), penalty_s=round(median(cold, "total") - median(hot, "total"), 3),
        cold_first_step_s=round(median(cold, "first_step"), 3), hot_first_step_s=round(median(hot, "first_step"), 3),
        same_bytes=all(c["digest"] == h["digest"] for c, h in zip(cold, hot)))))
    subprocess.run(["grep", "-v", "done in", directory + "/log"], check=False)
    shutil.rmtree(directory)


main()
