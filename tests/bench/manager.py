"""manager - stands in for systemd around preheatd, its descriptor store included."""
import os
import socket
import threading

ROOM = 251


class Store:
    """A descriptor store behind a $NOTIFY_SOCKET."""

    def __init__(self, name):
        self.address = f"preheat-check-{name}-{os.getpid()}-{id(self)}"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind("\0" + self.address)
        self.kept, self.lock = [], threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            data, fds, _, _ = socket.recv_fds(self.notify, 4096, 16)
            words = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            name = words.get("FDNAME", "stored")
            with self.lock:
                if words.get("FDSTOREREMOVE") == "1":
                    for kept in [k for k in self.kept if k[0] == name]:
                        os.close(kept[1])
                        self.kept.remove(kept)
                if words.get("FDSTORE") == "1":
                    self.kept += [(name, fd) for fd in fds]
                    fds = []
            for fd in fds:  # a barrier's, too: closing it is the answer
                os.close(fd)

    def spawn(self, command, sockets, log, **env):
        """A service with its sockets and what it stored; the process's number."""
        with self.lock:
            passed = [*sockets, *self.kept]
        pid = os.fork()
        if pid:
            return pid
        try:
            os.dup2(log.fileno(), 2)  # before its own number becomes another's
            high = [os.dup2(fd, 300 + i) for i, (_, fd) in enumerate(passed)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i, inheritable=True)
            os.closerange(3 + len(high), 4096)
            os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(os.getpid()),
                              LISTEN_FDNAMES=":".join(n for n, _ in passed), NOTIFY_SOCKET="@" + self.address, **env)
            os.execv(command[0], command)
        finally:
            os._exit(127)


class Systemd(Store):
    """254 or later: what preheatd stored is there for the next one."""

    def __init__(self, a, directory, log):
        super().__init__("systemd")
        self.env = dict(FDSTORE=str(ROOM))

    def names(self):
        with self.lock:
            return by_number(n for n, _ in self.kept)

    def copy(self, name):
        with self.lock:
            return os.dup(dict(self.kept)[name])

    def drop(self, keep=lambda name: False):
        with self.lock:
            for kept in [k for k in self.kept if not keep(k[0])]:
                os.close(kept[1])
                self.kept.remove(kept)

    def replace(self, name, fd):
        self.drop(lambda n: n != name)
        with self.lock:
            self.kept.append((name, fd))


class Manager:
    """Socket activation of preheatd."""

    def __init__(self, a, depot, config, log):
        self.program, self.depot, self.config, self.log, self.pid = a.build + "/daemon/preheatd", depot, config, log, None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.names, self.drop, self.replace = depot.names, depot.drop, depot.replace
        self.store = depot if isinstance(depot, Systemd) else Store("preheatd")

    def start(self):
        self.pid = self.store.spawn([self.program, "--config", self.config], [("http", self.listener.fileno())], self.log,
                                    **self.depot.env)

    def said(self):
        with open(self.log.name) as f:
            return f.read()

    def end(self, signo):
        if signo:
            os.kill(self.pid, signo)
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        return os.waitstatus_to_exitcode(status)


def by_number(names):
    return sorted(names, key=lambda n: int(n.rsplit("-", 1)[1]))
