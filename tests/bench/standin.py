"""A stand-in for systemd around preheatd: holds the listening socket, starts the daemon with it, asks it over HTTP."""
import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import time


class Service:
    """One configuration and one socket; the daemon comes and goes."""

    def __init__(self, build, model, module=None, segment=None, vram_limit=None, limits=""):
        self.program, self.pid = build + "/daemon/preheatd", None
        self.directory = tempfile.mkdtemp(prefix="preheat-bench-")
        os.makedirs(self.directory + "/state")
        self.config = self.directory + "/preheat.conf"
        lines = ["[model]", "name = bench", f"path = {model}", f"segment = {segment or self.directory + '/none'}", "[backend]",
                 f"kind = {'cuda' if module else 'cpu'}"]
        lines += [f"module = {module}"] if module else []
        lines += [f"vram_limit = {vram_limit}"] if vram_limit else []
        lines += ["[jobs]", f"state_dir = {self.directory}/state", "[media]", f"program = {build}/daemon/preheat-media"]
        with open(self.config, "w") as f:
            f.write("\n".join(lines) + "\n")
        self.log = open(self.directory + "/log", "w+")
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]

    def start(self):
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(self.log.fileno(), 2)
            os.dup2(self.listener.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http")
            os.execv(self.program, [self.program, "--config", self.config])

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        self.pid = None

    def close(self):
        if self.pid:
            self.stop()
        self.listener.close()
        self.log.close()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def said(self):
        with open(self.directory + "/log") as f:
            return f.read()


class Client:
    def __init__(self, service):
        self.service = service
        self.connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=600)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:400]!r}\n{self.service.said()}")
        return data

    def make(self, body, when_connected=None):
        """The finished job, its file, and the seconds to its first step and to its last byte from the connection on."""
        began, first = time.perf_counter(), None
        self.connection.connect()
        if when_connected:
            when_connected()
        job = json.loads(self.ask("POST", "/v1/videos", body))
        while job["status"] in ("queued", "in_progress"):
            job = json.loads(self.ask("GET", f"/v1/videos/{job['id']}"))
            if first is None and (job["phase"] == "denoising" and (job.get("step") or 0) >= 1 or job["phase"] in ("decoding", "done")):
                first = time.perf_counter() - began
            time.sleep(0.002)
        if job["status"] != "completed":
            raise SystemExit(json.dumps(job["error"]) + "\n" + self.service.said())
        data = self.ask("GET", f"/v1/videos/{job['id']}/content")
        return job, data, first, time.perf_counter() - began
