#!/usr/bin/env python3
"""test-ansible.py ROOT DIST LOGS: the role run for real against a booted system, then again, when nothing may change.

ROOT has sshd and python3 beside what make-packages installs. The connection needs no network: ssh talks to an sshd -i
that is started inside. One line a case: "ok NAME", "not ok NAME: why", "skip NAME: why". ansible-playbook and
ansible-lint are those of PATH."""
import json
import pathlib
import re
import shutil
import subprocess
import sys

from cases import cases_of, run_cases
from client import TCP, request, video
from machine import Machine

ROLE = pathlib.Path(__file__).resolve().parents[2] / "packaging/ansible"
TOKEN = "the-token-of-this-test"
VARIABLES = {
    "preheat_model_path": "/usr/share/preheat/models/tiny-wan", "preheat_model_name": "mine",
    "preheat_config": {"daemon": {"idle_exit": "2min"}, "limits": {"max_frames": 61}},
    "preheat_hugepages": 32, "preheat_api_token": TOKEN, "preheat_listen": ["127.0.0.1:8585"],
    "preheat_allow_from": ["192.0.2.0/24"], "preheat_textfile_dir": "/var/lib/node-exporter",
}


def inventory(m, work, package):
    """The host, and the way into it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / "key"], check=True)
    m.run("mkdir", "-p", "-m", "700", "/root/.ssh", "/run/sshd", "/var/lib/node-exporter")
    m.write("/root/.ssh/authorized_keys", (work / "key.pub").read_text())
    m.run("ssh-keygen", "-A")
    options = (f"-o ProxyCommand='nsenter -t {m.leader} -a /usr/sbin/sshd -i' -o StrictHostKeyChecking=no "
               "-o UserKnownHostsFile=/dev/null -o ControlMaster=no")
    host = {"ansible_user": "root", "ansible_ssh_private_key_file": str(work / "key"), "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3", "preheat_package": str(package), **VARIABLES}
    path = work / "hosts.json"
    path.write_text(json.dumps({"preheat": {"hosts": {"machine": host}}}))
    return path


def play(hosts, log):
    """What the run changed, and what failed."""
    done = subprocess.run(["ansible-playbook", "-i", hosts, ROLE / "site.yml"], capture_output=True, text=True, timeout=300)
    log.write_text(done.stdout + done.stderr)
    recap = re.search(r"changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", done.stdout)
    assert recap and done.returncode == 0, f"exit {done.returncode}, see {log}: {done.stdout[-600:]}{done.stderr[-300:]}"
    return int(recap[1])


def case_role_passes_ansible_lint(m, hosts, logs):
    done = subprocess.run(["ansible-lint", "--offline", "-q", "--nocolor", "site.yml", "roles/preheat"], cwd=ROLE,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def case_role_runs(m, hosts, logs):
    assert play(hosts, logs / "first") > 5


def case_second_run_changes_nothing(m, hosts, logs):
    changed = play(hosts, logs / "second")
    assert changed == 0, f"{changed} tasks changed something, see {logs}/second"


def case_the_host_is_as_the_variables_say(m, hosts, logs):
    where = ("http://127.0.0.1:8585",)
    status, body = request(m, where, "/v1/models")
    assert status == 401, f"{status} without a token: {body}"
    status, body = request(m, ("-H", f"Authorization: Bearer {TOKEN}", *where), "/v1/models")
    assert status == 200 and "mine" in body, body
    assert m.run("curl", "-s", "-m", "5", TCP[0], check=False).returncode == 7, "the default address still listens"
    video(m, ("--unix-socket", "/run/preheat/api.sock", "http://preheat"))
    assert "vm.nr_hugepages = 32" in m.run("cat", "/etc/sysctl.d/50-preheat.conf").stdout
    assert m.run("stat", "-c", "%a", "/etc/credstore/preheat.api-token").stdout.strip() == "600"
    shown = m.show("preheatd.socket", "IPAddressAllow")
    assert "192.0.2.0/24" in shown and "127.0.0.0/8" in shown, shown
    m.run("systemctl", "start", "preheat-textfile.service")
    assert "preheat_listening 1" in m.run("cat", "/var/lib/node-exporter/preheat.prom").stdout


def main():
    root, dist, logs = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    logs.mkdir(parents=True, exist_ok=True)
    for tool in ("ansible-playbook", "ansible-lint", "ssh"):
        if not shutil.which(tool):
            print(f"skip ansible: {tool} is not installed")
            return 0
    m = Machine(root, logs / "console")
    try:
        m.boot()
        hosts = inventory(m, m.work, sorted(dist.glob("preheat_*.deb"))[0])
        failures = run_cases(cases_of(globals()), logs, m, hosts, logs)
    finally:
        m.close()
    return failures > 0


sys.exit(main())
