#!/usr/bin/env python3
"""test-boot.py ROOT BUILDDIR [CASE...]: preheat installed in a minimal Debian, booted with its own systemd.

One line a case: "ok NAME", "not ok NAME: why", "skip NAME: why". Needs root and systemd-nspawn."""
import json
import pathlib
import re
import subprocess
import sys
import time

import boot_start
import chaos
from cases import Skip, cases_of, name_of, run_cases
from client import LONG, PROMPT, TCP, UNIX, check_content, create, finished, get, post, request, running, serving, video
from installed import install
from machine import Machine, host_pages, host_setting, huge_pages, wait_for

JOB_DONE = "d52581473827409fad640063a350a5a3"
CONF = "/etc/preheat/preheat.conf.d/50-test.conf"
SLOW_WARM_UP = "[warmup]\nreserve = none\nchunk_size = 2M\nread_size = 4K\nqueue_depth = 1\nthreads = 1\n"


def configure(m, text):
    m.write(CONF, text)
    m.run("systemctl", "stop", "preheatd.service")


def stopped(m):
    return m.show("preheatd.service", "ActiveState") == "inactive"


def assert_alive(m):
    """Nothing failed, the sockets still listen."""
    failed = m.run("systemctl", "--failed", "--plain", "--no-legend").stdout
    assert "preheatd" not in failed, f"failed units: {failed}"
    for unit in ("preheatd.socket", "preheatd-api.socket"):
        state = m.show(unit, "ActiveState")
        assert state == "active", f"{unit} is {state}"


def case_weights_are_warmed_up_at_boot(m):
    """Before anything else here: by the boot itself, which does not wait for it."""
    wait_for("the warm-up", 60, lambda: m.show("preheat-warmup.service", "SubState") == "exited")
    assert m.show("preheat-warmup.service", "ActiveState") == "active"
    began, boot = (int(m.show(unit, prop)) for unit, prop in (
        ("preheat-warmup.service", "ExecMainStartTimestampMonotonic"),
        ("multi-user.target", "ActiveEnterTimestampMonotonic")))
    assert began >= boot, f"warm-up at {began}, multi-user.target at {boot}"
    assert "resident" in m.show("preheat-warmup.service", "StatusText"), "no STATUS="
    said = m.run("preheatctl", "status").stdout
    assert "GB/s" in said and f"{chunks(m)} of {chunks(m)} chunks in " in said, said


def case_boot_starts_nothing_but_sockets(m):
    assert_alive(m)
    assert stopped(m), "preheatd runs before anybody connected"
    pids = m.run("pgrep", "-u", "preheat", check=False).stdout
    assert not pids, f"processes of user preheat: {pids}"


def case_tcp_connection_starts_the_daemon(m):
    serving(m, TCP)
    wait_for("READY", 10, lambda: m.show("preheatd.service", "ActiveState") == "active")
    assert m.show("preheatd.service", "User") == "preheat"
    assert m.show("preheatd.service", "StatusText"), "no STATUS="


def case_video_over_tcp(m):
    video(m, TCP)


def case_unix_connection_starts_the_daemon(m):
    m.run("systemctl", "stop", "preheatd.service")
    serving(m, UNIX)


def case_video_by_preheatctl(m):
    m.run("preheatctl", "generate", PROMPT, "-o", "/root/out.mp4", "--steps", "2", "--seed", "1", timeout=120)
    assert m.run("stat", "-c", "%s", "/root/out.mp4").stdout.strip() != "0"
    m.run("preheatctl", "status")


def case_journal_has_job_lines_with_fields(m):
    job = create(m, UNIX)
    finished(m, job, UNIX)
    entries = wait_for("journal", 10, lambda: m.journal(f"MESSAGE_ID={JOB_DONE}", f"JOB={job}"))
    entry = entries[-1]
    assert float(entry["SECONDS"]) > 0 and entry["MODEL"] == "tiny-wan", entry
    assert entry["PHASE"] and entry["START"], entry
    assert entry["PRIORITY"] == "6" and entry["_SYSTEMD_UNIT"] == "preheatd.service", entry
    assert "CODE_FILE" not in entry or "/tmp" not in entry["CODE_FILE"], entry
    everything = m.run("journalctl", "--no-pager", "-o", "cat").stdout
    assert PROMPT not in everything, "a prompt stands in the journal"
    explained = m.run("journalctl", "--no-pager", "-x", f"JOB={job}").stdout
    assert f"Video job {job} is done" in explained, explained


def case_stop_and_start_lose_nothing(m):
    done = video(m)
    job = create(m, **LONG)
    running(m, job)
    began = time.monotonic()
    m.run("systemctl", "stop", "preheatd.service")
    assert time.monotonic() - began < 30
    assert m.show("preheatd.service", "Result") == "success"
    m.run("systemctl", "start", "preheatd.service")
    check_content(m, done["id"])
    again = finished(m, job)
    assert again["status"] == "completed", again
    assert_alive(m)


def case_killed_daemon_is_back_with_its_jobs(m):
    job = create(m, **LONG)
    running(m, job)
    m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "preheatd.service")
    again = finished(m, job)
    assert again["status"] in ("completed", "failed"), again
    assert again["status"] == "completed" or again["error"]["code"], again
    assert_alive(m)


def case_fifty_connections_on_a_cold_socket(m):
    m.run("systemctl", "stop", "preheatd.service")
    urls = "\n".join(f'url = "{TCP[0]}/v1/videos"\noutput = "/dev/null"' for _ in range(50))
    out = m.run("curl", "-sS", "--parallel", "--parallel-immediate", "--parallel-max", "50", "-w", "%{http_code}\n",
                "-K", "-", input=urls, timeout=60).stdout.split()
    assert out == ["200"] * 50, out


def case_idle_exit_and_return(m):
    configure(m, "[daemon]\nidle_exit = 10s\n")
    get(m, TCP, "/healthz")
    assert not stopped(m)
    wait_for("idle exit", 25, lambda: stopped(m), 0.5)
    assert m.show("preheatd.service", "Result") == "success"
    pids = m.run("pgrep", "-u", "preheat", check=False).stdout
    assert not pids, f"processes of user preheat: {pids}"
    video(m)
    assert_alive(m)


def case_loaded_driver_is_not_loaded_again(m):
    """A start would wait for modprobe."""
    runs_modprobe = lambda: m.show("modprobe@nvidia_uvm.service", "ConditionResult") == "yes"
    configure(m, "")
    get(m, TCP, "/healthz")
    assert runs_modprobe()
    m.run("sh", "-c", "mount -o remount,rw /sys && mkdir -p /sys/module/nvidia_uvm")  # a container sees no modules
    try:
        configure(m, "")
        get(m, TCP, "/healthz")
        assert not runs_modprobe()
    finally:
        m.run("rmdir", "/sys/module/nvidia_uvm")


def case_no_model_is_503_and_no_failure(m):
    configure(m, "[model]\npath =\n")
    status, body = post(m)
    assert status == 503 and body["error"]["message"], body
    assert_alive(m)
    configure(m, "[model]\npath = /nonexistent\n")
    status, body = post(m)
    assert status == 503 and "/nonexistent" in body["error"]["message"], body
    assert_alive(m)


def case_bad_configuration_is_503_and_no_failure(m):
    configure(m, "[daemon]\nidle_exti = 10s\n")
    status, body = post(m)
    assert status == 503 and "idle_exti" in body["error"]["message"], body
    assert m.journal("MESSAGE_ID=78036120de6042ebbce4a4560e5e3cef"), "not in the journal"
    assert_alive(m)


def case_reload_answers(m):
    configure(m, "")
    get(m, TCP, "/healthz")
    m.run("systemctl", "reload", "preheatd.service")
    serving(m, TCP)


def case_daemon_cannot_write_weights(m):
    configure(m, "")
    get(m, TCP, "/healthz")
    pid = m.show("preheatd.service", "MainPID")
    for path in ("/run/preheat/weights/x", "/run/preheat/shared/x", "/run/preheat/x", "/usr/x", "/etc/x"):
        tried = m.run("nsenter", "-t", pid, "-m", "touch", path, check=False)
        assert "Read-only file system" in tried.stderr, f"{path}: {tried.stderr or 'was written'}"
    status = m.run("cat", f"/proc/{pid}/status").stdout
    assert re.search(r"CapEff:\s0+\n", status) and re.search(r"NoNewPrivs:\s1", status), status


def case_token_from_the_credential_store(m):
    m.write("/etc/credstore/preheat.api-token", "s3cret-token\n")
    m.run("chmod", "600", "/etc/credstore/preheat.api-token")
    m.run("systemctl", "stop", "preheatd.service")
    try:
        assert request(m, TCP, "/v1/videos")[0] == 401
        assert request(m, TCP, "/v1/videos", "-H", "Authorization: Bearer s3cret-toke")[0] == 401
        assert request(m, TCP, "/v1/videos", "-H", "Authorization: Bearer s3cret-token")[0] == 200
        pid = m.show("preheatd.service", "MainPID")
        for place in ("environ", "cmdline"):
            assert "s3cret" not in m.run("cat", f"/proc/{pid}/{place}").stdout
        assert "s3cret" not in m.run("journalctl", "--no-pager", "-o", "cat", "_SYSTEMD_UNIT=preheatd.service").stdout
    finally:
        m.run("rm", "/etc/credstore/preheat.api-token")
        m.run("systemctl", "stop", "preheatd.service")


def case_unix_socket_is_restarted_while_the_daemon_runs(m):
    """systemd refuses to open a socket whose service runs."""
    serving(m, TCP)
    m.run("systemctl", "restart", "preheatd-api.socket")
    serving(m, UNIX)
    assert_alive(m)


def case_unix_socket_is_for_its_group(m):
    curl = ["curl", "-s", "-o", "/dev/null", *UNIX[:-1], UNIX[-1] + "/v1/videos"]
    stranger = m.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *curl, check=False)
    assert stranger.returncode, "anybody may use the socket"
    m.run("setpriv", "--reuid=65534", "--regid=preheat", "--clear-groups", *curl)


def case_hung_daemon_is_killed_by_the_watchdog_and_replaced(m):
    m.write("/run/systemd/system/preheatd.service.d/test.conf", "[Service]\nWatchdogSec=2s\n")
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "restart", "preheatd.service")
    serving(m, TCP)
    pid = m.show("preheatd.service", "MainPID")
    m.run("systemctl", "kill", "-s", "STOP", "--kill-who=main", "preheatd.service")
    wait_for("another process", 20, lambda: m.show("preheatd.service", "MainPID") not in (pid, "0"))
    serving(m, TCP)
    m.run("rm", "/run/systemd/system/preheatd.service.d/test.conf")
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "stop", "preheatd.service")
    assert_alive(m)


def warm(m, reserve):
    configure(m, f"[warmup]\nreserve = {reserve}\n")
    m.run("systemctl", "stop", "preheat-warmup.service", "preheat-reserve.service")
    m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)  # the start limit counts these, too
    m.run("systemctl", "start", "preheat-warmup.service", timeout=120)
    assert m.show("preheat-warmup.service", "ActiveState") == "active"
    pids = m.run("pgrep", "-u", "preheat", check=False).stdout
    assert not pids, f"a process holds the weights: {pids}"


def segment(m):
    return json.loads(m.run("preheatctl", "status", "--json").stdout)["segment"]


def chunks(m):
    return segment(m)["n_chunks"]


def evict(m):
    m.run("systemctl", "stop", "preheatd.service", "preheat-warmup.service")


def case_warm_up_falls_back_without_pages(m):
    evict(m)
    if host_pages("Total"):
        raise Skip("this machine has huge pages of its own")
    with huge_pages(0, 0):
        warm(m, "none")
        assert m.run("test", "-s", "/run/preheat/shared/tiny-wan", check=False).returncode == 0
        assert "huge pages are missing" in m.run("journalctl", "--no-pager", "-u", "preheat-warmup").stdout
        assert video(m)["start"] == "cold_host"
        evict(m)
        assert m.run("test", "-e", "/run/preheat/shared/tiny-wan", check=False).returncode


def case_warm_up_takes_the_huge_pages_there_are(m):
    """Three of the model's nine or so: the header and the chunks used first are in them, the rest is in shared memory."""
    evict(m)
    with huge_pages(0, 3):
        if host_pages("Total"):
            raise Skip("this machine has huge pages of its own")
        m.run("rm", "-f", "/var/lib/preheat/models/tiny-wan.manifest")
        m.write(CONF, "[warmup]\nreserve = none\nchunk_size = 2M\n")
        m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)
        m.run("systemctl", "start", "preheat-warmup.service", timeout=120)
        if host_pages("Total") < 3:
            raise Skip("this machine gives no surplus pages")
        files = {f["path"].split("/")[-2]: f for f in segment(m)["files"]}
        assert files["weights"]["backing"] == "huge pages" and files["weights"]["bytes"] == 3 << 21, files
        assert files["shared"]["backing"] == "shared memory" and files["shared"]["bytes"] > 2 << 21, files
        m.run("systemctl", "stop", "preheatd.service")
        assert tier(m) == "cold_host"
        video(m)
        evict(m)
        assert host_pages("Total") == 0
        assert m.run("test", "-e", "/run/preheat/shared/tiny-wan", check=False).returncode
    configure(m, "")


def begin_slow_warm_up(m):
    """From nothing, the manifest included, to the first chunk."""
    evict(m)
    m.run("rm", "-f", "/var/lib/preheat/models/tiny-wan.manifest")
    m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)
    m.run("systemctl", "start", "--no-block", "preheat-warmup.service")
    wait_for("the first chunk", 60, lambda: segment(m).get("n_ready"), 0.001)


def case_warm_up_stopped_half_way_gives_back_the_memory(m):
    m.write(CONF, SLOW_WARM_UP)
    for _ in range(10):  # until it is not faster than this test
        begin_slow_warm_up(m)
        half = m.show("preheat-warmup.service", "ActiveState") == "activating"
        m.run("systemctl", "stop", "preheat-warmup.service")
        assert m.show("preheat-warmup.service", "Result") == "success" and not inodes(m), inodes(m)
        if half:
            break
    assert "told to stop with" in m.run("journalctl", "--no-pager", "-u", "preheat-warmup", "-n", "6").stdout
    configure(m, "")


def case_warm_up_stopped_gives_back_what_another_configuration_named(m):
    for other in ("[model]\nname = another\n", "[model]\nnam = another\n"):
        evict(m)
        warm(m, "none")
        assert "/tiny-wan" in inodes(m)
        m.write(CONF, other)
        evict(m)
        assert m.show("preheat-warmup.service", "Result") == "success" and not inodes(m), inodes(m)
    configure(m, "")


def inodes(m):
    return m.run("sh", "-c", "stat -c '%n %i' /run/preheat/weights/* /run/preheat/shared/* 2>/dev/null; true").stdout


def case_restart_of_either_unit_keeps_the_weights(m):
    evict(m)
    warm(m, "none")
    before = inodes(m)
    assert "tiny-wan" in before
    for unit in ("preheat-warmup.service", "preheatd.service", "preheat-warmup.service"):
        m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)
        m.run("systemctl", "restart", unit, timeout=120)
        assert inodes(m) == before, unit
    assert "nothing was read" in m.run("journalctl", "--no-pager", "-u", "preheat-warmup", "-n", "8").stdout
    assert m.show("preheat-warmup.service", "ActiveState") == "active"


def case_reload_adds_and_drops_models(m):
    evict(m)
    warm(m, "none")
    assert "/tiny-wan" in inodes(m)
    m.run("cp", "-a", "/usr/share/preheat/models/tiny-wan", "/var/lib/preheat/models/second")
    m.write(CONF, "[model]\nname = second\npath = /var/lib/preheat/models/second\n[warmup]\nreserve = none\n")
    m.run("systemctl", "reload", "preheat-warmup.service", timeout=120)
    assert "/second" in inodes(m) and "/tiny-wan" not in inodes(m), inodes(m)
    assert segment(m)["n_ready"] == chunks(m) > 0
    m.write(CONF, "[model]\npath =\n")
    m.run("systemctl", "reload", "preheat-warmup.service", timeout=120)
    assert not inodes(m), inodes(m)
    assert m.show("preheat-warmup.service", "ActiveState") == "active"
    configure(m, "")
    m.run("systemctl", "reload", "preheat-warmup.service", timeout=120)
    assert "/tiny-wan" in inodes(m) and m.show("preheat-reserve.service", "ActiveState") == "active"
    m.run("rm", "-r", "/var/lib/preheat/models/second")


def case_request_is_answered_while_the_warm_up_runs(m):
    """The warm-up is stopped in the middle: what is there is mapped, used, and waited for where it ends."""
    m.write(CONF, SLOW_WARM_UP)
    for _ in range(10):  # until it is not faster than this test
        begin_slow_warm_up(m)
        m.run("systemctl", "kill", "-s", "STOP", "preheat-warmup.service", check=False)
        if segment(m)["n_ready"] < segment(m)["n_chunks"]:
            break
    assert segment(m)["n_ready"] < segment(m)["n_chunks"], segment(m)
    job = create(m)
    time.sleep(2)
    status = get(m, TCP, f"/v1/videos/{job}")[1]["status"]
    assert status in ("queued", "in_progress"), status
    assert segment(m)["n_ready"] < segment(m)["n_chunks"]
    m.run("systemctl", "kill", "-s", "CONT", "preheat-warmup.service")
    assert finished(m, job)["start"] == "cold_host"
    wait_for("READY", 60, lambda: m.show("preheat-warmup.service", "ActiveState") == "active")
    configure(m, "")


def case_warm_up_is_idle_io_outside_boot_with_locked_memory(m):
    m.write(CONF, SLOW_WARM_UP)
    look = ("systemctl start --no-block preheat-warmup; i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); "
            "p=$(cat /sys/fs/cgroup/preheat.slice/preheat-warmup.service/cgroup.procs 2>/dev/null) && "
            "ionice -p $p 2>/dev/null | grep -q idle && echo idle && exit; done")
    for _ in range(10):  # until it is not faster than this test
        evict(m)
        m.run("rm", "-f", "/var/lib/preheat/models/tiny-wan.manifest")
        m.run("systemctl", "reset-failed", "preheat-warmup.service", check=False)
        found = m.run("sh", "-c", look).stdout.strip()
        wait_for("READY", 60, lambda: m.show("preheat-warmup.service", "ActiveState") == "active")
        if found:
            break
    assert found == "idle"
    # Asked for: a container may have a limit of its own.
    assert m.show("preheat-warmup.service", "LimitMEMLOCK") == "infinity"
    configure(m, "")


def case_warm_up_takes_surplus_pages_and_gives_them_back(m):
    evict(m)
    before = host_pages("Total")
    with huge_pages(before, 0):
        warm(m, "surplus")
        if host_pages("Total") == before:
            raise Skip("this machine gives no surplus pages")
        assert video(m)["start"] == "cold_host"
        evict(m)
        assert host_pages("Total") == before, f"{host_pages('Total')} pages, {before} before"


def case_warm_up_reservation_is_given_back(m):
    for mode, setting in (("surplus", "nr_overcommit_hugepages"), ("permanent", "nr_hugepages")):
        evict(m)
        m.run("systemctl", "stop", "preheat-reserve.service")
        with huge_pages(host_pages("Total"), 0):
            before = host_setting(setting)
            if before:
                raise Skip("this machine has huge pages of its own")
            warm(m, mode)
            assert host_setting(setting) > before, m.run("journalctl", "-u", "preheat-reserve", "-n", "3").stdout
            evict(m)
            m.run("systemctl", "stop", "preheat-reserve.service")
            assert host_setting(setting) == before, f"{setting}: {host_setting(setting)}, {before} before"


def case_reservation_that_fails_is_given_back(m):
    """After the change, not before it."""
    evict(m)
    m.run("systemctl", "stop", "preheat-reserve.service")
    directory = "/run/systemd/system/preheat-reserve.service.d"
    m.write(f"{directory}/test.conf", "[Service]\nExecStartPost=/bin/false\n")
    m.run("systemctl", "daemon-reload")
    configure(m, "[warmup]\nreserve = surplus\n")
    with huge_pages(host_pages("Total"), 0):
        m.run("systemctl", "start", "preheat-reserve.service", check=False)
        assert m.show("preheat-reserve.service", "ActiveState") == "failed"
        said = m.run("journalctl", "--no-pager", "-u", "preheat-reserve", "-n", "6").stdout
        assert host_setting("nr_overcommit_hugepages") == 0 and "surplus huge pages of 2 MiB allowed: 0 again" in said, said
    m.run("rm", "-r", directory)
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "reset-failed", "preheat-reserve.service")
    configure(m, "")


def case_weights_outlive_the_daemon(m):
    evict(m)
    with huge_pages(64, 0) as got:
        if got < 64:
            raise Skip(f"only {got} of 64 huge pages to be had on this machine")
        warm(m, "none")
        inode = m.run("stat", "-f", "-c", "%T", "/run/preheat/weights/tiny-wan").stdout.strip()
        assert inode == "hugetlbfs", inode
        inode = m.run("stat", "-c", "%i", "/run/preheat/weights/tiny-wan").stdout
        assert video(m)["start"] == "cold_host"
        m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "preheatd.service")
        m.run("systemctl", "daemon-reexec")
        m.run("systemctl", "restart", "preheatd.service")
        video(m)
        assert m.run("stat", "-c", "%i", "/run/preheat/weights/tiny-wan").stdout == inode
        evict(m)
        assert m.run("test", "-e", "/run/preheat/weights/tiny-wan", check=False).returncode


def tier(m):
    """Where the weights of the daemon came from, once it serves; starts it."""
    health = wait_for("the daemon to serve", 30,
                      lambda: (lambda h: h if h["phase"] == "serving" else None)(get(m, TCP, "/healthz")[1]))
    return health["detail"]["weights"]


def systemd_keeps(m):
    """Whether descriptors outlive their service without preheat-keeper."""
    return int(m.run("systemctl", "--version").stdout.split()[1]) >= 254


def kept(m):
    """Descriptors; the keeper has second copies of its own in the store of its unit."""
    unit = "preheatd.service" if systemd_keeps(m) else "preheat-keeper.service"
    return int(m.show(unit, "NFileDescriptorStore"))


def park(m, more=""):
    """A daemon that parks, and does; returns the number of descriptors."""
    configure(m, "[backend]\npark_vram = yes\n" + more)
    tier(m)
    return wait_for("parking", 10, lambda: kept(m))


def nobody(m):
    """No process of ours."""
    return not m.run("pgrep", "-u", "preheat", check=False).stdout


def case_parked_weights_outlive_the_daemon(m):
    m.run("systemctl", "start", "preheat-warmup.service", timeout=120)  # its manifest is another model than a first look's
    configure(m, "[backend]\npark_vram = yes\npark_release = 5s\n[daemon]\nidle_exit = 10s\n")
    assert tier(m) != "parked"
    n = wait_for("parking", 10, lambda: kept(m))
    holder = "systemd" if systemd_keeps(m) else "preheat-keeper"
    assert f"{holder} holds parked weights" in m.run("preheatctl", "doctor", check=False).stdout
    refused = m.run("preheatctl", "release", check=False)
    assert refused.returncode == 4 and "systemctl stop preheatd" in refused.stderr, refused
    wait_for("idle exit", 40, lambda: stopped(m))
    assert kept(m) == n
    assert m.show("preheatd.service", "SubState") == ("dead-resources-pinned" if systemd_keeps(m) else "dead")
    assert m.show("preheat-release.timer", "ActiveState") == "active"
    assert tier(m) == "parked"
    m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "preheatd.service")
    wait_for("restart", 20, lambda: m.show("preheatd.service", "NRestarts") != "0")
    assert tier(m) == "parked" and kept(m) == n
    m.run("systemctl", "stop", "preheatd.service")
    assert kept(m) == n
    assert m.run("preheatctl", "release").stdout == f"Released {n - 1} parked pieces\n"
    assert kept(m) == 0 and tier(m) != "parked"
    wait_for("parking", 10, lambda: kept(m))
    m.run("systemctl", "stop", "preheatd.service")
    wait_for("release by the timer", 120, lambda: kept(m) == 0, 1)
    wait_for("the timer to end", 10, lambda: m.show("preheat-release.timer", "ActiveState") == "inactive")
    wait_for("an idle machine", 20, lambda: nobody(m))
    configure(m, "")
    assert_alive(m)


def case_the_keeper_is_small_and_loses_nothing(m):
    if systemd_keeps(m):
        raise Skip("systemd keeps the descriptors itself")
    n = park(m, "park_release = 0\n")
    m.run("systemctl", "stop", "preheatd.service")
    pid = m.show("preheat-keeper.service", "MainPID")
    ours = m.run("pgrep", "-u", "preheat").stdout.split()
    assert ours == [pid], ours
    rss = int(re.search(r"VmRSS:\s+(\d+) kB", m.run("cat", f"/proc/{pid}/status").stdout)[1])
    assert rss <= 2048, f"{rss} KiB"
    m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "preheat-keeper.service")
    wait_for("the keeper to be back", 10, lambda: m.show("preheat-keeper.service", "MainPID") not in ("0", pid))
    m.run("systemctl", "restart", "preheat-keeper.service")
    m.run("systemctl", "daemon-reexec")
    assert kept(m) == n and tier(m) == "parked" and kept(m) == n
    m.run("systemctl", "stop", "preheatd.service")
    stranger = m.run("setpriv", "--reuid=nobody", "--regid=preheat", "--clear-groups", "preheatctl", "release", check=False)
    assert stranger.returncode == 1 and "Permission denied" in stranger.stderr, stranger
    assert kept(m) == n and tier(m) == "parked"
    m.run("systemctl", "stop", "preheatd.service")
    m.run("systemctl", "stop", "preheat-keeper.service")
    assert kept(m) == 0 and nobody(m)
    assert tier(m) != "parked"
    wait_for("parking", 10, lambda: kept(m))
    configure(m, "")
    assert tier(m) == "parked"  # used once more, then not kept
    wait_for("an idle keeper", 20, lambda: m.show("preheat-keeper.service", "ActiveState") == "inactive")
    assert_alive(m)


def case_parked_weights_make_room_for_others(m):
    """What the driver would say comes from a library that stands in for its own; the CPU's weights are noted as a card's."""
    library = next(pathlib.Path(m.build).rglob("libnvml.so"))
    with open(library, "rb") as f:
        (m.tree / "usr/lib/libnvidia-ml.so.1").write_bytes(f.read())
    m.run("ldconfig", "-n", "/usr/lib")
    m.run("ldconfig")
    card = "GPU-12345678-9abc-def0-0001-0203040506ff"
    m.write("/etc/nvml-test", f"{card} 5 {200 << 20}")
    n = park(m, "park_release = 0\nvram_floor = 100M\n")
    m.write("/var/lib/preheat/parked-card", card)
    m.run("systemctl", "stop", "preheatd.service")
    ended = {m.show("preheat-release.service", "InactiveEnterTimestampMonotonic")}
    for look in ("one look", "another look"):
        wait_for(look, 20, lambda: m.show("preheat-release.service", "InactiveEnterTimestampMonotonic") not in ended)
        ended.add(m.show("preheat-release.service", "InactiveEnterTimestampMonotonic"))
    assert kept(m) == n
    m.write("/etc/nvml-test", f"{card} 5 {99 << 20}")
    wait_for("the weights to make room", 12, lambda: kept(m) == 0, 0.2)
    said = m.run("journalctl", "--no-pager", "-o", "cat", "-u", "preheat-release.service").stdout
    assert f"Released {n - 1} parked pieces: 99 MiB of the card are free, vram_floor is 100 MiB" in said, said
    wait_for("the timer to end", 10, lambda: m.show("preheat-release.timer", "ActiveState") == "inactive")
    wait_for("an idle machine", 20, lambda: nobody(m))
    m.run("rm", "/usr/lib/libnvidia-ml.so.1", "/etc/nvml-test", "/var/lib/preheat/parked-card")
    configure(m, "")
    assert_alive(m)


SERVER = pathlib.Path(__file__).resolve().parent.parent / "sources" / "server.py"
SOURCED = "[model]\nname = remote\nsource = http://127.0.0.1:8000/srv\n[source]\nretries = 1\nmode = {}\n[warmup]\nreserve = none\n"


class Elsewhere:
    """A web server in the machine's network that asks for a token and has the tiny model."""

    def __init__(self, m):
        self.m = m

    def __enter__(self):
        command = ["nsenter", "-t", self.m.leader, "-n", sys.executable, SERVER, self.m.tree, "8000"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "serving\n"

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def warm_again(m):
    m.run("systemctl", "reset-failed", check=False)
    m.run("systemctl", "stop", "preheatd.service", "preheat-warmup.service")
    m.run("systemctl", "start", "preheat-warmup.service", timeout=120, check=False)
    return m.show("preheat-warmup.service", "ActiveState")


def case_model_from_a_source(m):
    m.run("cp", "-r", "/usr/share/preheat/models/tiny-wan", "/srv/wan")
    m.run("sh", "-c", "mv /srv/wan/* /srv/ && preheatctl model add /srv --name wan --models-dir /root --chunk-size 2 && "
          "cp /root/wan.manifest /srv/preheat.manifest")
    kept = "/var/lib/preheat/models/cache/remote"
    configure(m, SOURCED.format("cache"))
    try:
        status, body = post(m)
        assert status == 503 and "was not fetched yet" in body["error"]["message"], body
        m.run("systemctl", "enable", "preheat-fetch.service")
        with Elsewhere(m):
            assert warm_again(m) != "active"
            assert "access is refused (HTTP 401)" in m.run("journalctl", "--no-pager", "-u", "preheat-fetch").stdout
            m.write("/etc/credstore/preheat.source-token", "s3cret\n")
            m.run("chmod", "600", "/etc/credstore/preheat.source-token")
            assert warm_again(m) == "active", m.run("journalctl", "--no-pager", "-u", "preheat*").stdout[-2000:]
        assert m.show("preheat-fetch.service", "Result") == "success"
        assert video(m)["start"] == "cold_host"
        assert warm_again(m) == "active"  # from the disk: nobody serves
        assert "keeping the manifest" in m.run("journalctl", "--no-pager", "-u", "preheat-fetch").stdout
        configure(m, SOURCED.format("direct"))
        m.run("rm", "-r", f"{kept}/files")
        with Elsewhere(m):
            assert warm_again(m) != "active"
            assert "no network is allowed here" in m.run("journalctl", "--no-pager", "-u", "preheat-warmup").stdout
            directory = "/etc/systemd/system/preheat-warmup.service.d"
            m.run("mkdir", "-p", directory)
            m.run("ln", "-s", "/usr/share/preheat/warmup-direct.conf", directory)
            m.run("systemctl", "daemon-reload")
            assert warm_again(m) == "active", m.run("journalctl", "--no-pager", "-u", "preheat*").stdout[-2000:]
        assert m.run("ls", kept).stdout.split() == ["manifest", "source"]
        assert video(m)["start"] == "cold_host"
        assert "s3cret" not in m.run("journalctl", "--no-pager", "-o", "cat").stdout
    finally:
        m.run("systemctl", "disable", "preheat-fetch.service")
        m.run("rm", "-rf", "/etc/systemd/system/preheat-warmup.service.d", "/etc/credstore/preheat.source-token")
        m.run("systemctl", "daemon-reload")
        m.run("systemctl", "stop", "preheatd.service", "preheat-warmup.service")
        m.run("systemctl", "reset-failed", check=False)
        configure(m, "")


def main():
    root, build, wanted = sys.argv[1], sys.argv[2], sys.argv[3:]
    logs = pathlib.Path(build) / "system-logs"
    logs.mkdir(exist_ok=True)
    m = Machine(root, logs / "console", lends_huge_pages=True)
    m.build = build
    failures = 1
    vm = pathlib.Path("/proc/sys/vm")
    settings = {name: (vm / name).read_text() for name in ("nr_hugepages", "nr_overcommit_hugepages")}
    try:
        install(m, build)
        m.boot()
        m.run("journalctl", "--update-catalog")
        cases = (*cases_of(globals()), *cases_of(vars(boot_start)), *cases_of(vars(chaos)))
        failures = run_cases([c for c in cases if not wanted or name_of(c) in wanted], logs, m)
    finally:
        m.close()
        for name, value in settings.items():  # preheat-reserve changes what the container shares with this machine
            (vm / name).write_text(value)
    return failures > 0


sys.exit(main())
