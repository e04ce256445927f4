"""The installed package replaced, removed, purged."""
import re

from cases import Skip
from client import TCP, create, finished, get, video
from machine import host_pages, host_setting, huge_pages, wait_for
from package import (CONFFILE, PARK_CONF, alive, apt, has_keeper, nothing_runs, parked, processes, replace, segment, stop,
                     systemd_version, version, warm)



def case_boot_does_not_wait_for_the_load(m):
    """A load that takes five seconds longer."""
    slow = "/etc/systemd/system/preheat-warmup.service.d/test.conf"
    m.write(slow, "[Service]\nExecStartPre=/bin/sleep 5\n")
    m.reboot()
    listening, booted, warmed = (int(m.show(unit, "ActiveEnterTimestampMonotonic"))
                                 for unit in ("preheatd.socket", "multi-user.target", "preheat-warmup.service"))
    assert listening < booted < warmed - 4_000_000, (listening, booted, warmed)
    chain = m.run("systemd-analyze", "critical-chain", "multi-user.target").stdout
    assert "preheat-warmup" not in chain, chain
    assert not processes(m), processes(m)
    assert video(m)["start"] == "cold_host"
    m.run("rm", slow)
    m.run("systemctl", "daemon-reload")
    alive(m)


def case_weights_outlive_a_soft_reboot(m):
    if systemd_version(m) < 254:
        raise Skip(f"systemd {systemd_version(m)} has no soft-reboot, 254 is needed")
    before, since = warm(m), m.show("preheat-warmup.service", "ActiveEnterTimestampMonotonic")
    m.run("systemctl", "soft-reboot")
    count = ("systemctl", "show", "-P", "SoftRebootsCount")
    wait_for("the soft-reboot", 60, lambda: m.run(*count, check=False).stdout.strip() == "1" and
             m.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"), 0.5)
    assert segment(m) == before, f"segment was {before}, is {segment(m)}"
    assert m.show("preheat-warmup.service", "ActiveEnterTimestampMonotonic") == since, "the weights were loaded again"
    video(m)
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


def case_parked_weights_need_no_process_or_a_small_one(m):
    assert has_keeper(m) == (systemd_version(m) < 254), f"systemd {systemd_version(m)}, keeper: {has_keeper(m)}"
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


def case_remove_gives_all_memory_back(m):
    m.run("systemctl", "stop", "preheatd.service", "preheat-warmup.service", "preheat-reserve.service")
    with huge_pages(host_pages("Total"), 0):
        warm(m)
        video(m)
        pages, allowed = host_pages("Surp"), host_setting("nr_overcommit_hugepages")
        assert allowed, "the reserve step did nothing"
        apt(m, "remove", "preheat")
        nothing_runs(m)
        assert host_pages("Surp") == 0 or host_pages("Surp") < pages, "surplus pages stay"
        assert host_setting("nr_overcommit_hugepages") == 0, "what was allowed was not taken back"
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
