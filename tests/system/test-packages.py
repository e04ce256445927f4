#!/usr/bin/env python3
"""test-packages.py ROOT DIST LOGS [CASE...]: the life of the .deb in a booted Debian, from installing to purging.

ROOT is what make-packages made, DIST holds the package, and releases 1 and 2 of the .rpm if that is to be tried. Cases follow one another on one machine, in this order; a
name picks single ones, after installing. One line a case: "ok NAME", "not ok NAME: why", "skip NAME: why". Needs root
and systemd-nspawn."""
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback

from client import LONG, TCP, UNIX, create, finished, get, request, running, video
from machine import Machine, host_pages, huge_pages, wait_for

UNITS = ("preheatd.socket", "preheatd-api.socket", "preheatd.service", "preheat-warmup.service",
         "preheat-fetch.service", "preheat-reserve.service", "run-preheat-weights.mount", "run-preheat-shared.mount",
         "preheat.slice")
PARKING = ("preheat-release.timer", "preheat-keeper.socket", "preheat-keeper.service")
PARK_CONF = "/etc/preheat/preheat.conf.d/50-park.conf"
SOCKETS = UNITS[:2]
CONFFILE = "/etc/preheat/preheat.conf"
SEGMENTS = ("/run/preheat/weights/tiny-wan", "/run/preheat/shared/tiny-wan")
IDLE_EXITS = 100


class Skip(Exception):
    pass


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
    m.run("systemctl", "start", "preheat-warmup.service", timeout=120)
    return segment(m)


def drop_in(m, name, text):
    """Settings of preheatd.service for one case; none: as the package has it."""
    directory = "/run/systemd/system/preheatd.service.d"
    if text:
        m.write(f"{directory}/{name}.conf", text)
    else:
        m.run("rm", "-r", directory)
    m.run("systemctl", "daemon-reload")


def stop(m):
    m.run("systemctl", "stop", "preheatd.service")


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


def case_install_starts_the_sockets_only(m):
    apt(m, "install", "/root/preheat.deb")
    alive(m)
    assert m.show("preheatd.service", "ActiveState") == "inactive", "installing started the daemon"
    assert m.show("preheat-warmup.service", "ActiveState") == "inactive", "installing loads weights"
    assert not processes(m), processes(m)
    for unit in (*SOCKETS, "preheat-warmup.service"):
        assert m.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled", unit


def case_installed_size_is_below_25_mb(m):
    kib = int(m.run("dpkg-query", "-W", "-f", "${Installed-Size}", "preheat").stdout)
    assert kib * 1024 <= 25e6, f"{kib} KiB"


def case_lintian_is_silent(m):
    """Each override in debian/preheat.lintian-overrides says why; one that is not needed is a finding, too."""
    if not shutil.which("lintian"):
        raise Skip("lintian is not installed")
    said = subprocess.run(["lintian", "--allow-root", "-EI", "--pedantic", m.tree / "root/preheat.deb"],
                          capture_output=True, text=True).stdout
    assert not said.strip(), said


def case_units_are_verified(m):
    said = m.run("systemd-analyze", "verify", "--man=no", *UNITS, check=False)
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "preheat" in line]
    assert not ours, ours


def case_first_request_over_tcp_gets_a_video(m):
    video(m)
    alive(m)


def case_first_request_over_unix_gets_a_video(m):
    stop(m)
    m.run("preheatctl", "generate", "a blue square moving up on a white background", "-o", "/root/out.mp4", "--steps",
          "2", timeout=120)
    assert "ftyp" in m.run("head", "-c", "12", "/root/out.mp4").stdout
    video(m, UNIX)


def case_fifty_connections_on_a_cold_socket(m):
    stop(m)
    urls = "\n".join(f'url = "{TCP[0]}/v1/videos"\noutput = "/dev/null"' for _ in range(50))
    out = m.run("curl", "-sS", "--parallel", "--parallel-immediate", "--parallel-max", "50", "-w", "%{http_code}\n",
                "-K", "-", input=urls, timeout=60).stdout.split()
    assert out == ["200"] * 50, out


def case_hundred_exits_in_a_row_keep_the_sockets(m):
    """An idle exit takes 10 s at least, which the start limit (20 in 60 s) allows with room. Here SIGTERM makes the
    same clean exit twenty times as often, hence the limit's interval is a twentieth; the next client comes at once, in
    the middle of the exit, and must be served."""
    drop_in(m, "test", "[Unit]\nStartLimitIntervalSec=3s\n")
    pids = set()
    for n in range(IDLE_EXITS):
        began = time.monotonic()
        status, _ = get(m, TCP, "/v1/videos")
        assert status == 200, f"exit {n}: {status}"
        pids.add(main_pid(m))
        m.run("systemctl", "kill", "-s", "TERM", "--kill-who=main", "preheatd.service")
        time.sleep(max(0, 0.25 - (time.monotonic() - began)))
    assert len(pids) >= IDLE_EXITS - 1, f"only {len(pids)} daemons"
    get(m, TCP, "/v1/videos")
    drop_in(m, "test", None)
    alive(m)


def case_crash_loop_is_limited_and_has_a_way_out(m):
    stop(m)
    drop_in(m, "test", "[Service]\nType=simple\nExecStart=\nExecStart=/bin/false\nRestartSec=50ms\nRestartSteps=0\n")
    m.run("curl", "-s", "-m", "2", f"{TCP[0]}/healthz", check=False)
    wait_for("the start limit", 30, lambda: m.show("preheatd.service", "ActiveState") == "failed", 0.3)
    assert int(m.show("preheatd.service", "NRestarts")) <= 20
    drop_in(m, "test", None)
    m.run("systemctl", "reset-failed", "preheatd.service", *SOCKETS)
    m.run("systemctl", "start", *SOCKETS)
    video(m)
    alive(m)


def case_daemon_killed_in_a_job_is_back_with_it(m):
    job = create(m, **LONG)
    running(m, job)
    pid = main_pid(m)
    m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "preheatd.service")
    assert finished(m, job)["status"] == "completed"
    assert main_pid(m) != pid
    alive(m)


def case_watchdog_ends_a_stopped_daemon(m):
    """Shorter times than the unit's 60 s and 30 s."""
    stop(m)
    drop_in(m, "test", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=2s\nTimeoutStopSec=2s\n")
    get(m, TCP, "/v1/videos")
    pid = main_pid(m)
    m.run("kill", "-STOP", pid)
    wait_for("the watchdog", 20, lambda: main_pid(m) not in (pid, "0"), 0.3)
    assert "Watchdog timeout" in m.run("journalctl", "--no-pager", "-u", "preheatd").stdout
    video(m)
    drop_in(m, "test", None)
    alive(m)


def case_full_disk_fails_the_job_only(m):
    stop(m)
    m.run("mount", "-t", "tmpfs", "-o", "size=16k,uid=preheat,gid=preheat,mode=0750", "tmpfs", "/var/lib/preheat/videos")
    try:
        m.run("sh", "-c", "head -c 12000 /dev/zero >/var/lib/preheat/videos/.full")
        failed = finished(m, create(m, width=128, height=128, num_frames=17))
        assert failed["status"] == "failed" and failed["error"]["message"], failed
        m.run("rm", "/var/lib/preheat/videos/.full")
        alive(m)
    finally:
        stop(m)
        m.run("umount", "/var/lib/preheat/videos")
    video(m)


def case_memlock_limit_does_not_matter(m):
    stop(m)
    drop_in(m, "test", "[Service]\nLimitMEMLOCK=64K\n")
    video(m)
    drop_in(m, "test", None)


def case_read_only_usr(m):
    stop(m)
    m.run("mount", "--bind", "/usr", "/usr")
    m.run("mount", "-o", "remount,bind,ro", "/usr")
    try:
        video(m)
    finally:
        stop(m)
        m.run("umount", "-l", "/usr")


def case_sockets_stopped_while_the_daemon_runs(m):
    get(m, TCP, "/v1/videos")
    m.run("systemctl", "stop", "preheatd.socket")
    assert m.run("curl", "-s", "-m", "5", f"{TCP[0]}/healthz", check=False).returncode == 7, "still listening"
    m.run("systemctl", "start", *SOCKETS)
    video(m)
    alive(m)


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


def case_upgrade_under_load(m):
    m.run("sed", "-i", r"$a\[daemon]\nidle_exit = 2min", CONFFILE)
    old = version(m)
    replace(m, lambda: apt(m, "install", "/root/newer.deb"))
    assert version(m) == old + "+1"
    assert m.show("preheatd.service", "NeedDaemonReload") == "no"
    assert "idle_exit = 2min" in m.run("tail", "-n", "1", CONFFILE).stdout, "the conffile was replaced"


def case_downgrade_under_load(m):
    replace(m, lambda: apt(m, "install", "--allow-downgrades", "/root/preheat.deb"))
    assert not version(m).endswith("+1")
    assert "idle_exit = 2min" in m.run("tail", "-n", "1", CONFFILE).stdout, "the conffile was replaced"


def case_reinstall_under_load(m):
    replace(m, lambda: apt(m, "install", "--reinstall", "/root/preheat.deb"))


def has_keeper(m):
    return m.run("test", "-e", "/usr/libexec/preheat/preheat-keeper", check=False).returncode == 0


def parked(m):
    """Descriptors that are held while preheatd is away."""
    return int(m.show("preheat-keeper.service" if has_keeper(m) else "preheatd.service", "NFileDescriptorStore"))


def case_parked_weights_need_no_process_or_a_small_one(m):
    systemd = int(m.run("systemctl", "--version").stdout.split()[1])
    assert has_keeper(m) == (systemd < 254), f"systemd {systemd}, keeper: {has_keeper(m)}"
    stop(m)
    assert not processes(m), processes(m)
    m.write(PARK_CONF, "[backend]\npark_vram = yes\npark_release = 0\n")
    warm(m)  # the manifest with digests is another model than a first look's
    video(m)
    n = wait_for("parking", 20, lambda: parked(m))
    stop(m)
    assert parked(m) == n
    if has_keeper(m):
        pid = m.show("preheat-keeper.service", "MainPID")
        assert m.run("pgrep", "-u", "preheat").stdout.split() == [pid], processes(m)
        rss = int(re.search(r"VmRSS:\s+(\d+) kB", m.run("cat", f"/proc/{pid}/status").stdout)[1])
        assert rss <= 2048, f"{rss} KiB"
    else:
        assert not processes(m), processes(m)


def case_parked_weights_outlive_an_upgrade(m):
    n, pid = parked(m), m.show("preheat-keeper.service", "MainPID")
    apt(m, "install", "/root/newer.deb")
    assert parked(m) == n and m.show("preheat-keeper.service", "MainPID") == pid
    assert finished(m, create(m))["start"] == "parked"
    apt(m, "install", "--allow-downgrades", "/root/preheat.deb")  # with the daemon running
    assert finished(m, create(m))["start"] == "parked"
    assert parked(m) == n and m.show("preheat-keeper.service", "MainPID") == pid


def case_released_weights_leave_nothing(m):
    stop(m)
    m.run("preheatctl", "release")
    assert parked(m) == 0
    wait_for("an idle machine", 20, lambda: not processes(m))
    video(m)
    wait_for("parking", 20, lambda: parked(m))  # removing the package finds them


def nothing_runs(m):
    mounts = m.run("cat", "/proc/mounts").stdout
    assert "/run/preheat" not in mounts, mounts
    assert not processes(m), processes(m)
    assert m.run("test", "-e", "/run/preheat", check=False).returncode, m.run("ls", "-lR", "/run/preheat").stdout
    for unit in (*UNITS, *PARKING):
        state = m.show(unit, "ActiveState")
        assert state == "inactive", f"{unit} is {state}"


def case_remove_gives_all_memory_back(m):
    warm(m)
    job = create(m)
    finished(m, job)
    pages = host_pages("Total") - host_pages("Free"), host_pages("Surp")
    apt(m, "remove", "preheat")
    nothing_runs(m)
    assert host_pages("Surp") == 0 or host_pages("Surp") < pages[1], "surplus pages stay"
    assert m.run("test", "-s", "/var/lib/preheat/jobs.db", check=False).returncode == 0, "removal took the data"
    assert "idle_exit = 2min" in m.run("cat", CONFFILE).stdout, "removal took the conffile"
    m.run("rm", "-f", PARK_CONF)


def case_install_again_knows_its_jobs(m):
    apt(m, "install", "/root/preheat.deb")
    alive(m)
    _, jobs = get(m, TCP, "/v1/videos?limit=1")
    assert jobs["data"], "the jobs are gone"
    video(m)


def case_purge_leaves_nothing(m):
    warm(m)
    apt(m, "purge", "preheat")
    nothing_runs(m)
    found = m.run("find", "/etc", "/usr", "/var", "/run", "-xdev", "-iname", "*preheat*", "-not", "-path",
                  "/usr/share/doc/*", "-not", "-path", "/var/log/*").stdout
    assert not found, f"left behind: {found}"
    links = m.run("find", "/etc/systemd", "-xtype", "l", "-lname", "*preheat*").stdout
    assert not links, f"links left behind: {links}"


def rpm(m, *command):
    """The libraries are Debian's, which rpm's database does not know; the scriptlets are the package's."""
    return m.run("rpm", "--force-debian", "--nodeps", *command, timeout=120)


def case_rpm_installs_as_presets_say(m):
    rpm(m, "-i", "/root/preheat.rpm")
    for unit in (*SOCKETS, "preheat-warmup.service"):
        assert m.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled", unit
        assert m.show(unit, "ActiveState") == "inactive", f"installing started {unit}"
    said = m.run("systemd-analyze", "verify", "--man=no", *UNITS, check=False)
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "preheat" in line]
    assert not ours, ours


def case_rpm_first_request_gets_a_video(m):
    m.run("systemctl", "start", *SOCKETS)
    video(m)


def case_rpm_upgrade_under_load(m):
    m.run("sed", "-i", r"$a\[daemon]\nidle_exit = 2min", CONFFILE)
    replace(m, lambda: rpm(m, "-U", "/root/next.rpm"))
    assert m.run("rpm", "-q", "--qf", "%{RELEASE}", "preheat").stdout.startswith("2")
    assert "idle_exit = 2min" in m.run("tail", "-n", "1", CONFFILE).stdout, "the configuration was replaced"


def case_rpm_erase_stops_everything(m):
    warm(m)
    stop(m)
    m.write(PARK_CONF, "[backend]\npark_vram = yes\n")
    video(m)
    wait_for("parking", 20, lambda: parked(m))
    rpm(m, "-e", "preheat")
    nothing_runs(m)
    assert m.run("test", "-s", "/var/lib/preheat/jobs.db", check=False).returncode == 0, "removal took the data"
    assert "idle_exit = 2min" in m.run("cat", CONFFILE + ".rpmsave").stdout, "removal took the configuration"
    m.run("rm", "-f", PARK_CONF)


CASES = [value for name, value in list(globals().items()) if name.startswith("case_")]


def main():
    root, dist, logs, wanted = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4:]
    logs.mkdir(parents=True, exist_ok=True)
    m = Machine(root, logs / "console")
    failures = 0
    try:
        package = package_of(dist)
        shutil.copy(package, m.tree / "root/preheat.deb")
        shutil.copy(newer(package, m.work), m.tree / "root/newer.deb")
        rpms = sorted(p for p in dist.glob("preheat-[0-9]*.rpm") if not p.name.endswith(".src.rpm"))
        for rpm_file, name in zip(rpms, ("preheat.rpm", "next.rpm")):
            shutil.copy(rpm_file, m.tree / "root" / name)
        m.boot()
        print(m.run("systemctl", "--version").stdout.splitlines()[0], flush=True)
        # The container cannot set the pages of the machine, which it shares: 64 may be taken while this runs.
        with huge_pages(host_pages("Total"), 64):
            for number, case in enumerate(CASES):
                name = case.__name__.removeprefix("case_")
                if wanted and number and name not in wanted or name.startswith("rpm_") and len(rpms) != 2:
                    continue
                began = time.monotonic()
                try:
                    case(m)
                    print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
                except Skip as why:
                    print(f"skip {name}: {why}", flush=True)
                except Exception as why:
                    failures += 1
                    print(f"not ok {name}: {why}", flush=True)
                    (logs / name).write_text(traceback.format_exc() + "\n" +
                                             m.run("journalctl", "--no-pager", "-b", check=False).stdout)
    finally:
        m.close()
    return failures > 0


sys.exit(main())
