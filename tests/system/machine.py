"""A directory tree booted with its own systemd in systemd-nspawn, and commands run in it."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time


def wait_for(what, seconds, probe, pause=0.1):
    """The first true value of probe(); AssertionError after that many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        if value := probe():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(pause)


def cgroup_mount():
    """Where control groups of version 2 are; None: nowhere."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return pathlib.Path(place.split()[4])
    return None


class Machine:
    """Boots a copy-on-write view of root; what a test changes is gone with it.

    lends_huge_pages: the kernel's counters of huge pages are writable inside; they are this machine's."""

    def __init__(self, root, log, lends_huge_pages=False):
        self.lends_huge_pages = lends_huge_pages
        self.log = open(log, "w")
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="preheat-boot-", dir="/var/tmp"))
        self.tree = self.work / "tree"
        self.nspawn, self.leader, self.mounted = None, None, False
        self.name = f"preheat-{os.getpid()}-{id(self):x}"
        # Machines in one control group would see, and stop, each other's units.
        mount = cgroup_mount()
        self.cgroup = mount / self.name if mount else None
        for name in ("tree", "upper", "scratch"):
            (self.work / name).mkdir()
        options = f"lowerdir={root},upperdir={self.work}/upper,workdir={self.work}/scratch"
        mount = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.tree], stderr=self.log)
        self.mounted = mount.returncode == 0
        if not self.mounted:
            shutil.rmtree(self.tree)
            subprocess.run(["cp", "-a", "--reflink=auto", root, self.tree], check=True)

    def boot(self, *options):
        env = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
        command = ["systemd-nspawn", "-D", self.tree, "-b", "--register=no", "--keep-unit", "--console=pipe",
                   "--capability=all", "--private-network", f"--machine={self.name}", *options]
        if self.cgroup:
            self.cgroup.mkdir(exist_ok=True)
            command = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.cgroup, *command]
        self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env,
                                       start_new_session=True)
        wait_for("boot", 60, self._booted)
        if self.lends_huge_pages:
            self.run("sh", "-c", "mkdir /run/sysfs && mount -t sysfs sysfs /run/sysfs && mount -o remount,rw /run/sysfs &&"
                     " for d in kernel/mm/hugepages devices/system/node; do mount --bind /run/sysfs/$d /sys/$d; done")

    def reboot(self):
        self._power_off()
        self.boot()

    def _booted(self):
        """Looked for anew each time: nspawn's first child is not yet the one that becomes PID 1."""
        if self.nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.nspawn.returncode}, see {self.log.name}")
        children = subprocess.run(["pgrep", "-P", str(self.nspawn.pid)], capture_output=True, text=True).stdout
        if not children:
            return False
        self.leader = children.split()[0]
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def run(self, *command, check=True, timeout=60, **more):
        enter = ["nsenter", "-t", self.leader, "-a", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                 "HOME=/root", "LC_ALL=C.UTF-8", *command]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=timeout, **more)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}"[:2000])
        return done

    def start(self, *command):
        """A command in the background."""
        return subprocess.Popen(["nsenter", "-t", self.leader, "-a", "--", "env", "-i",
                                 "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def kill(self):
        """As a power cut: PID 1 takes all of the machine with it."""
        os.kill(int(self.leader), signal.SIGKILL)
        self.nspawn.wait(30)

    def show(self, unit, prop):
        return self.run("systemctl", "show", "-P", prop, unit).stdout.strip()

    def write(self, path, text):
        self.run("mkdir", "-p", os.path.dirname(path))
        self.run("tee", path, input=text)

    def journal(self, *matches):
        """Entries as dicts."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "-o", "json", "--no-pager", *matches).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def _power_off(self):
        if self.nspawn and self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            try:
                self.nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()

    def close(self):
        self._power_off()
        if self.cgroup and self.cgroup.exists():
            subprocess.run(["find", self.cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=False,
                           stderr=self.log)
        self.log.close()
        if self.mounted:
            subprocess.run(["umount", "-l", self.tree], check=False)
        shutil.rmtree(self.work, ignore_errors=True)


def host_setting(name):
    """A number of /proc/sys/vm."""
    return int(pathlib.Path("/proc/sys/vm", name).read_text())


def host_pages(field):
    """HugePages_FIELD of /proc/meminfo."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(rf"HugePages_{field}:\s+(\d+)", text)[1])


@contextlib.contextmanager
def huge_pages(pool, overcommit):
    """Sets the machine's pool and what it may exceed it by, sets both back afterwards; yields the pool that was got.
    The container shares them with the machine that runs the test."""
    files = [pathlib.Path("/proc/sys/vm") / name for name in ("nr_hugepages", "nr_overcommit_hugepages")]
    before = [f.read_text() for f in files]
    try:
        for f, value in zip(files, (pool, overcommit)):
            f.write_text(str(value))
        yield int(files[0].read_text())
    finally:
        for f, value in zip(files, before):
            f.write_text(value)
