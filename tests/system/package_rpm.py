"""The .rpm, its scriptlets run in a booted system with an rpm database of its own."""
from client import video
from machine import wait_for
from package import CONFFILE, PARK_CONF, SOCKETS, UNITS, nothing_runs, parked, replace, stop, warm



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
