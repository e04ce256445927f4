"""bench - starts the test server of server.c, and a table of checks that names what failed."""
import http.client
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback


class Server:
    """The server on a fresh or a given state directory; ends with the `with` block, cleanly or the test fails."""

    def __init__(self, *options, state=None):
        self.own_state = state is None
        self.state = pathlib.Path(state or tempfile.mkdtemp(prefix="preheat-api-"))
        self.options = options

    def __enter__(self):
        self.process = subprocess.Popen([sys.argv[1], self.state, *self.options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if line[:1] != ["port"]:
            raise AssertionError(self.process.stderr.read())
        self.port = int(line[1])
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, kind, value, trace):
        try:
            _, err = self.process.communicate(timeout=20)
            if kind is None and self.process.returncode != 0:
                raise AssertionError(f"the server ended with {self.process.returncode}: {err}")
            if kind is not None and err:
                print(err[-3000:])
        finally:
            self.process.kill()
            if self.own_state:
                shutil.rmtree(self.state, ignore_errors=True)

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self, data, timeout=20, shut=False):
        """All that the server answers to these bytes until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := s.recv(65536):
                answer += piece
            return answer

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, JSON or bytes)"""
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        c = self.connect()
        try:
            c.request(method, path, body, headers)
            r = c.getresponse()
            data = r.read()
            if r.headers.get("Content-Type") == "application/json" and data:
                data = json.loads(data)
            return r.status, r.headers, data
        finally:
            c.close()

    def create(self, prompt="a cat", **fields):
        status, _, video = self.ask("POST", "/v1/videos", {"prompt": prompt, **fields})
        assert status == 200, (status, video)
        return video

    def wait(self, video_id, *states, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _, _, video = self.ask("GET", f"/v1/videos/{video_id}")
            if video.get("status") in (states or ("completed", "failed")):
                return video
            time.sleep(0.01)
        raise AssertionError(f"{video_id} is still {video}")


def form(*parts, boundary="XX"):
    """A multipart body; a part is (name, value) or (name, value, file name)."""
    out = b""
    for name, value, *file in parts:
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        out += f'; filename="{file[0]}"\r\nContent-Type: image/png'.encode() if file else b""
        out += b"\r\n\r\n" + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return out + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def main(checks):
    """Runs the functions whose names are given, or all."""
    failed = 0
    wanted = sys.argv[2:]
    for check in checks:
        if wanted and check.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            check()
            print(f"ok {check.__name__} ({time.monotonic() - began:.2f} s)")
        except Exception:
            failed += 1
            print(f"not ok {check.__name__}")
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    sys.exit(failed > 0)
