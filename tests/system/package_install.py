"""The package as it is right after installing."""
import json
import re
import shutil
import subprocess

from cases import Skip
from client import video
from package import SOCKETS, UNITS, alive, apt, configure, processes, stop



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


def case_manual_has_ten_lines_for_the_journal(m):
    """Each of them works: -f until it is stopped, -g with or without a match."""
    roff = m.run("zcat", "/usr/share/man/man7/preheat.7.gz").stdout
    text = roff.replace("\\-", "-").replace("\\(aq", "'").replace("\\~", " ")
    lines = re.findall(r"^\.BI? (journalctl .*)$", text, re.M)
    assert len(lines) == 10, lines
    job = video(m)["id"]
    for line in lines:
        done = m.run("timeout", "2", "sh", "-c", line.replace("JOB= ID", f"JOB={job}"), check=False)
        accepted = {0, *([124] if " -f" in line else []), *([1] if " -g" in line else [])}
        assert done.returncode in accepted, f"{line}: {done}"
        if "JOB=" in line and "MESSAGE_ID" not in line:
            assert job in done.stdout, done


def case_catalogue_speaks_two_languages(m):
    m.run("localedef", "-i", "de_DE", "-f", "UTF-8", "de_DE.UTF-8")
    job = video(m)["id"]
    for locale, words in (("C.UTF-8", f"Video job {job} is done"), ("de_DE.UTF-8", f"Auftrag {job} ist fertig")):
        said = m.run("env", f"LC_ALL={locale}", "journalctl", "--no-pager", "-x", f"JOB={job}").stdout
        assert words in said, said


def case_closed_doors_are_named(m):
    """What a user may not use, and what the daemon may not read, is told as that, with what helps."""
    as_nobody = ("runuser", "-u", "nobody", "--", "preheatctl")
    refused = m.run(*as_nobody, "list", check=False)
    assert refused.returncode == 3 and "you may not use socket" in refused.stderr, refused
    assert "queue" in m.run(*as_nobody, "--url", "http://127.0.0.1:8484", "status").stdout
    model = "/srv/closed"
    m.run("cp", "-r", "/usr/share/preheat/models/tiny-wan", model)
    m.run("chmod", "700", model)
    said = m.run("preheatctl", "model", "add", model, "--name", "closed").stdout
    assert f"user 'preheat' cannot read '{model}/" in said, said
    configure(m, f"[model]\nname = closed\npath = {model}\n")
    found = json.loads(m.run("preheatctl", "doctor", "--json", check=False).stdout)
    state, text = next((f["state"], f["found"]) for f in found if f["check"] == "model")
    assert state == "problem" and f"user 'preheat' cannot read '{model}/" in text, (state, text)
    m.run("chmod", "755", model)
    found = json.loads(m.run("preheatctl", "doctor", "--json").stdout)
    assert all(f["state"] != "problem" for f in found), found
    m.run("rm", "-r", model, "/var/lib/preheat/models/closed.manifest")
    configure(m, None)
    alive(m)


def case_sockets_can_be_restarted(m):
    """As after systemctl edit: with the daemon running or not, both addresses are taken again."""
    for running in (True, False, True):
        video(m)
        if not running:
            stop(m)
        m.run("systemctl", "restart", "preheatd.socket")
        alive(m)
    video(m)
