"""daemon - runs the real preheatd on a state directory and sockets of its own, as it runs without systemd."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time


class Place:
    """A directory with a configuration; removed at the end of the `with` block."""

    def __init__(self, model, media):
        self.model, self.media = pathlib.Path(model), media

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="preheat-daemon-"))
        self.state = self.path / "state"
        self.state.mkdir()
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def copy_model(self):
        """A model whose files may be replaced, not written to: they are links where links are possible."""
        def link(source, target):
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
        self.model = pathlib.Path(shutil.copytree(self.model, self.path / "model", copy_function=link))
        return self.model

    def configure(self, sections):
        """A file with {section: {key: value}} on top of what every test needs."""
        settings = {"model": {"name": "tiny-wan", "path": self.model, "segment": self.path / "weights"},
                    "backend": {"kind": "cpu"}, "jobs": {"state_dir": self.state}, "media": {"program": self.media}}
        for section, keys in sections.items():
            settings.setdefault(section, {}).update(keys)
        file = pathlib.Path(tempfile.mkdtemp(dir=self.path)) / "preheat.conf"
        file.write_text("".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                                for section, keys in settings.items()))
        return file


class Daemon:
    """One preheatd with sockets handed over as systemd does; the `with` block ends it by SIGTERM, and it must end
    cleanly. start() may be called again once it has ended: the sockets stay."""

    def __init__(self, program, place, wrap=(), **sections):
        self.config, self.environment = place.configure(sections), {}
        self.log = self.config.with_name("log")
        self.socket = self.config.with_name("api.sock")
        self.tcp, self.unix = socket.socket(), socket.socket(socket.AF_UNIX)
        self.tcp.bind(("127.0.0.1", 0))
        self.unix.bind(str(self.socket))
        for s in (self.tcp, self.unix):
            s.listen(128)
        self.port = self.tcp.getsockname()[1]
        self.command = [*wrap, "sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", program, "--config", str(self.config)]

    def start(self):
        def hand_over():
            low = [os.dup(s.fileno()) for s in (self.tcp, self.unix)]
            for target, source in ((103, low[0]), (104, low[1]), (3, 103), (4, 104)):
                os.dup2(source, target)
            for fd in (*low, 103, 104):
                if fd > 4:
                    os.close(fd)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=hand_over, close_fds=False,
                env=dict(os.environ, LISTEN_FDS="2", LISTEN_FDNAMES="http:api", **self.environment))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.tcp.close()
        self.unix.close()
        if kind is not None:
            print(self.said()[-3000:])
        elif self.process.returncode:
            raise AssertionError(f"preheatd ended with {self.process.returncode}: {self.said()}")

    def said(self):
        return self.log.read_text(errors="replace")

    def wait_said(self, text):
        end = time.monotonic() + 20
        while text not in self.said():
            assert time.monotonic() < end, (text, self.said())
            time.sleep(0.02)

    def ask(self, method, path, body=None, headers=None, timeout=60):
        """(status, JSON or bytes)"""
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request(method, path, json.dumps(body) if body is not None else None, headers)
            r = c.getresponse()
            data = r.read()
            return r.status, json.loads(data) if r.headers.get("Content-Type") == "application/json" and data else data
        finally:
            c.close()

    def create(self, prompt="a red circle", **fields):
        status, video = self.ask("POST", "/v1/videos", {"prompt": prompt, **fields})
        assert status == 200, (status, video)
        return video

    def get(self, video):
        return self.ask("GET", f"/v1/videos/{video['id']}")[1]

    def wait(self, video, *states, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            video = self.get(video)
            if video["status"] in (states or ("completed", "failed")):
                return video
            time.sleep(0.02)
        raise AssertionError(f"still {video}")

    def refusal(self):
        """Why no request is taken."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            status, body = self.ask("POST", "/v1/videos", {"prompt": "a", "num_inference_steps": 1})
            if status == 503 and "being opened" not in body["error"]["message"]:
                return body["error"]["message"]
            time.sleep(0.1)
        raise AssertionError(f"requests are taken: {status} {body}")

    def children(self):
        task = f"/proc/{self.process.pid}/task"
        found = []
        for thread in os.listdir(task):
            try:
                found += map(int, pathlib.Path(task, thread, "children").read_text().split())
            except OSError:
                pass
        return found

    def status_kib(self, field):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise KeyError(field)
