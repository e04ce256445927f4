"""The installed package: what it consists of, how it is replaced, and what must hold whatever was done to it."""
import re
import shutil
import subprocess
import threading

from client import LONG, TCP, create, finished, get, request, running
from machine import wait_for

UNITS = ("preheatd.socket", "preheatd-api.socket", "preheatd.service", "preheat-warmup.service",
         "preheat-fetch.service", "preheat-reserve.service", "run-preheat-gigantic.mount",
         "run-preheat-weights.mount", "run-preheat-shared.mount",
         "preheat.slice")
PARKING = ("preheat-release.timer", "preheat-keeper.socket", "preheat-keeper.service")
PARK_CONF = "/etc/preheat/preheat.conf.d/50-park.conf"
SOCKETS = UNITS[:2]
CONFFILE = "/etc/preheat/preheat.conf"
SEGMENTS = ("/run/preheat/weights/tiny-wan", "/run/preheat/shared/tiny-wan")


def package_of(dist):
    found = [p for p in sorted(dist.glob("preheat_*.deb"))]
    assert len(found) == 1, f"{len(found)} packages in {dist}"
    return found[0]


def newer(package, work):
    """The package with a higher version, another comment in its conffile and another in its units."""
    tree, result = work / "newer", work / "newer.deb"
    run = lambda *command: subprocess.run(command, check=True, capture_output=True)
    run("dpkg-deb", "-R", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: (.*)$", r"Version: \1+1", control.read_text(), flags=re.M))
    for path in (tree / CONFFILE.lstrip("/"), *tree.glob("**/systemd/system/preheat*")):
        if path.is_file():
            path.write_text(path.read_text() + "# changed by the newer version\n")
    (tree / "DEBIAN/md5sums").unlink()
    run("dpkg-deb", "--root-owner-group", "-b", tree, result)
    shutil.rmtree(tree)
    return result


def apt(m, *command):
    return m.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o",
                 "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0", *command, timeout=120).stdout


def version(m):
    return m.run("dpkg-query", "-W", "-f", "${Version}", "preheat").stdout


def processes(m):
    return m.run("pgrep", "-a", "-u", "preheat", check=False).stdout


def alive(m):
    failed = m.run("systemctl", "--failed", "--plain", "--no-legend").stdout
    assert "preheat" not in failed, f"failed units: {failed}"
    for unit in SOCKETS:
        state = m.show(unit, "ActiveState")
        assert state == "active", f"{unit} is {state}"


def main_pid(m):
    return m.show("preheatd.service", "MainPID")


def segment(m):
    """Path and inode of the weights in memory."""
    for path in SEGMENTS:
        found = m.run("stat", "-c", "%i %s", path, check=False)
        if found.returncode == 0:
            return path, found.stdout
    raise AssertionError("there is no segment")


def warm(m):
    m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)  # its start limit counts these, too
    m.run("systemctl", "start", "preheat-warmup.service", timeout=120)
    return segment(m)


def systemd_version(m):
    return int(m.run("systemctl", "--version").stdout.split()[1])


def drop_in(m, text, unit="preheatd.service"):
    """A unit's settings for one case; none: as the package has it."""
    directory = f"/run/systemd/system/{unit}.d"
    if text:
        m.write(f"{directory}/test.conf", text)
    else:
        m.run("rm", "-r", directory)
    m.run("systemctl", "daemon-reload")


def configure(m, text):
    """A piece of configuration for one case; none: as the package has it. Read at the next start."""
    path = "/etc/preheat/preheat.conf.d/50-test.conf"
    if text:
        m.write(path, text)
    else:
        m.run("rm", path)
    stop(m)


def stop(m):
    m.run("systemctl", "stop", "preheatd.service")


def has_keeper(m):
    return m.run("test", "-e", "/usr/libexec/preheat/preheat-keeper", check=False).returncode == 0


def parked(m):
    """Descriptors that are held while preheatd is away."""
    return int(m.show("preheat-keeper.service" if has_keeper(m) else "preheatd.service", "NFileDescriptorStore"))


class Load:
    """A client that asks again and again, until it is told to stop; every answer must be 200."""

    def __init__(self, m):
        self.m, self.ended = m, threading.Event()
        self.answers, self.thread = [], threading.Thread(target=self._ask)

    def _ask(self):
        while not self.ended.is_set():
            try:
                self.answers.append(request(self.m, TCP, "/v1/videos?limit=1")[0])
            except AssertionError as why:
                self.answers.append(str(why))

    def __enter__(self):
        self.thread.start()
        wait_for("the first answers", 20, lambda: len(self.answers) > 3)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def check(self):
        wrong = [a for a in self.answers if a != 200]
        assert not wrong, f"{len(wrong)} of {len(self.answers)} requests failed, the first: {wrong[0]}"
        assert len(self.answers) > 10, f"only {len(self.answers)} requests"


def replace(m, change):
    """Changes the installed package under load and with a running job; neither may notice, nor the weights."""
    before = warm(m)
    get(m, TCP, "/v1/videos")
    pid = main_pid(m)
    with Load(m) as load:
        job = create(m, **LONG)
        running(m, job)
        change()
        done = finished(m, job)
    load.check()
    assert done["status"] == "completed", done
    assert main_pid(m) != pid, "the old daemon still runs"
    assert segment(m) == before, f"segment was {before}, is {segment(m)}"
    assert m.show("preheat-warmup.service", "ActiveState") == "active"
    alive(m)


def nothing_runs(m):
    mounts = m.run("cat", "/proc/mounts").stdout
    assert "/run/preheat" not in mounts, mounts
    assert not processes(m), processes(m)
    assert m.run("test", "-e", "/run/preheat", check=False).returncode, m.run("ls", "-lR", "/run/preheat").stdout
    for unit in (*UNITS, *PARKING):
        state = m.show(unit, "ActiveState")
        assert state == "inactive", f"{unit} is {state}"
