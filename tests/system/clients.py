"""Clients of a daemon inside a machine that ask at the same time, and some that behave badly: threads of this program
in the machine's network."""
import concurrent.futures
import contextlib
import ctypes
import http.client
import json
import os
import socket
import struct

API = "/run/preheat/api.sock"
CLONE_NEWNET = 0x40000000
N_THREADS = 24


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("preheat", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Clients:
    """Each function but close() runs in one of the threads: submit() gives a future, ask() waits."""

    def __init__(self, m):
        self.api = f"/proc/{m.leader}/root{API}"
        self.network = os.open(f"/proc/{m.leader}/ns/net", os.O_RDONLY)
        self.pool = concurrent.futures.ThreadPoolExecutor(N_THREADS, initializer=self._enter)
        self.submit = self.pool.submit

    def _enter(self):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self.network, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def close(self):
        self.pool.shutdown()
        os.close(self.network)

    def call(self, over, method, path, body=None, timeout=40):
        """(status, bytes); over: "tcp" or "unix"."""
        c = UnixConnection(self.api, timeout) if over == "unix" else \
            http.client.HTTPConnection("127.0.0.1", 8484, timeout=timeout)
        with contextlib.closing(c):
            headers = {"Host": "localhost"} | ({"Content-Type": "application/json"} if body else {})
            c.request(method, path, json.dumps(body) if body else None, headers)
            answer = c.getresponse()
            return answer.status, answer.read()

    def ask(self, *arguments, **more):
        return self.submit(self.call, *arguments, **more).result()

    def connect(self, over):
        if over == "tcp":
            return socket.create_connection(("127.0.0.1", 8484), timeout=20)
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(self.api)
        return s

    def vanish(self, over, data, after_answer):
        """In the middle of what it sends, or of the answer."""
        with contextlib.suppress(OSError), self.connect(over) as s:
            s.sendall(data)
            if after_answer:
                s.recv(100)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def linger(self, over, data, kept):
        """Says a part and stays."""
        with contextlib.suppress(OSError):
            s = self.connect(over)
            kept.append(s)
            s.sendall(data)
