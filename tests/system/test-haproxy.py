#!/usr/bin/env python3
"""test-haproxy.py ROOT DIST LOGS: packaging/haproxy with two hosts that make videos and a balancer, each a booted
system, in a network of their own.

ROOT has haproxy beside what make-packages installed."""
import os
import pathlib
import shutil
import subprocess
import sys
import time

from cases import cases_of, run_cases
from client import LONG, UNIX, check_content, create, finished, get, request
from machine import Machine, wait_for
from package import apt, package_of, processes

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "packaging/haproxy"
NAME, TOKEN = "videos.example", "the-token-of-this-test"
ADDRESSES = {"balancer": "192.0.2.1", "one": "192.0.2.11", "two": "192.0.2.12"}
PUBLIC = ("--cacert", "/etc/haproxy/videos.pem", "--resolve", f"{NAME}:443:127.0.0.1", "-H",
          f"Authorization: Bearer {TOKEN}", f"https://{NAME}")


class Site:
    """The three machines, and the namespace whose bridge joins them; nothing else reaches it."""

    def __init__(self, root, logs):
        self.network = f"preheat-{os.getpid()}"
        self.machines = {name: Machine(root, logs / f"console-{name}") for name in ADDRESSES}
        self.balancer, self.hosts = self.machines["balancer"], [self.machines["one"], self.machines["two"]]
        self.ip("netns", "add", self.network)
        self.ip("-n", self.network, "link", "add", "bridge", "type", "bridge")
        self.ip("-n", self.network, "link", "set", "bridge", "up")

    def ip(self, *command):
        subprocess.run(["ip", *command], check=True)

    def join(self, name):
        """Boots one, with an interface in the network."""
        m = self.machines[name]
        m.boot()
        inside = ["nsenter", "-t", m.leader, "-n", "ip"]
        self.ip("-n", self.network, "link", "add", name, "type", "veth", "peer", "name", "host0", "netns", m.leader)
        self.ip("-n", self.network, "link", "set", name, "master", "bridge", "up")
        subprocess.run([*inside, "address", "add", f"{ADDRESSES[name]}/24", "dev", "host0"], check=True)
        subprocess.run([*inside, "link", "set", "host0", "up"], check=True)
        return m

    def close(self):
        for m in self.machines.values():
            m.close()
        subprocess.run(["ip", "netns", "del", self.network], check=False)

    def run(self, *command, **more):
        """For the journal of a failed case: the balancer's."""
        return self.balancer.run(*command, **more)


def certificate(work, name, address):
    """A self-signed certificate, and it with its key in one file, as HAProxy wants it."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "1", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:{address}", "-keyout",
                    work / "key", "-out", work / "crt"], check=True, capture_output=True)
    crt = (work / "crt").read_text()
    return crt, crt + (work / "key").read_text()


def copy(m, source, target, mode="0644"):
    m.write(target, (EXAMPLE / source).read_text())
    m.run("chmod", mode, target)


def start_haproxy(m, config):
    copy(m, config, "/etc/haproxy/haproxy.cfg")
    m.run("rm", "/etc/systemd/system/haproxy.service")
    m.run("systemctl", "daemon-reload")
    m.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
    m.run("systemctl", "start", "haproxy.service")


def set_up_host(m, package, pem):
    shutil.copy(package, m.tree / "root/preheat.deb")
    apt(m, "install", "/root/preheat.deb")
    m.write("/etc/preheat/preheat.conf.d/50-balanced.conf", f"[daemon]\nallowed_hosts = {NAME}\nidle_exit = 10s\n")
    m.write("/etc/credstore/preheat.api-token", TOKEN + "\n")
    m.write("/etc/haproxy/host.pem", pem)
    copy(m, "preheat-agent", "/usr/local/libexec/preheat-agent", "0755")
    for unit in ("preheat-agent.socket", "preheat-agent@.service"):
        copy(m, unit, f"/etc/systemd/system/{unit}")
    start_haproxy(m, "host.cfg")
    m.run("systemctl", "enable", "--now", "preheat-agent.socket")


def set_up(site, package, work):
    trusted = ""
    for name, m in site.machines.items():
        site.join(name)
        crt, pem = certificate(work, NAME if m is site.balancer else name, ADDRESSES[name])
        if m is site.balancer:
            m.write("/etc/haproxy/videos.pem", pem)
        else:
            trusted += crt
            set_up_host(m, package, pem)
    site.balancer.write("/etc/haproxy/hosts-ca.pem", trusted)
    start_haproxy(site.balancer, "balancer.cfg")


def jobs_of(m):
    """Ids of the jobs that this host has."""
    _, answer = get(m, ("-H", f"Authorization: Bearer {TOKEN}", *UNIX), "/v1/videos?limit=100")
    return {job["id"] for job in answer["data"]}


def agent(m):
    return m.run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8480; cat <&3").stdout


def owner(site, job):
    return [m for m in site.hosts if m.nspawn.poll() is None and job in jobs_of(m)]


def case_checks_wake_nobody(site):
    wait_for("a host to be up", 20, lambda: request(site.balancer, PUBLIC, "/balancer-healthz")[0] == 200)
    time.sleep(5)  # some rounds of checks
    for m in site.hosts:
        assert agent(m) == "ready up 100%\n", agent(m)
        assert not processes(m), processes(m)


def case_jobs_are_spread_and_found_again(site):
    jobs = [create(site.balancer, PUBLIC) for _ in range(4)]
    owners = [owner(site, job) for job in jobs]
    assert all(len(found) == 1 for found in owners), "a job is on no host, or on both"
    assert {id(found[0]) for found in owners} == {id(m) for m in site.hosts}, "one host got all jobs"
    for job in jobs:
        assert finished(site.balancer, job, PUBLIC)["status"] == "completed"
        check_content(site.balancer, job, PUBLIC)
        for _ in range(4):
            assert get(site.balancer, PUBLIC, f"/v1/videos/{job}")[0] == 200


def case_busy_host_gets_fewer_jobs(site):
    one, two = site.hosts
    direct = ("-H", f"Authorization: Bearer {TOKEN}", *UNIX)
    busy = [create(one, direct, **LONG) for _ in range(40)]  # more than are done before the end
    assert 0 < int(agent(one).split()[-1].rstrip("%\n")) < 15, agent(one)
    time.sleep(5)  # the balancer asks every two seconds
    jobs = [create(site.balancer, PUBLIC) for _ in range(8)]
    there = jobs_of(two)
    n = sum(job in there for job in jobs)
    assert n >= 6, f"the idle host got {n} of 8"
    for job in busy:
        request(one, direct, f"/v1/videos/{job}", "-X", "DELETE")
    for job in jobs:
        finished(site.balancer, job, PUBLIC)


def case_token_and_name_are_asked_for(site):
    assert request(site.balancer, (*PUBLIC[:4], PUBLIC[-1]), "/v1/videos")[0] == 401
    one = site.hosts[0]
    direct = ("-k", "-H", f"Authorization: Bearer {TOKEN}", f"https://{ADDRESSES['one']}:8443")
    status, answer = request(one, direct, "/v1/videos")
    assert status in (403, 421), f"{status} for a Host that is not allowed: {answer}"


def case_balancer_that_forgot_finds_jobs(site):
    jobs = [create(site.balancer, PUBLIC) for _ in range(4)]
    site.balancer.run("systemctl", "restart", "haproxy.service")
    for job in jobs:
        assert finished(site.balancer, job, PUBLIC)["status"] == "completed"
        check_content(site.balancer, job, PUBLIC)
    assert get(site.balancer, PUBLIC, "/v1/videos/video_00000000000000000000000000000000")[0] == 404


def case_host_that_dies_is_left_out(site):
    one, two = site.hosts
    kept = next(iter(jobs_of(two)))
    one.kill()
    jobs = [create(site.balancer, PUBLIC) for _ in range(4)]  # before a check has noticed it
    assert set(jobs) <= jobs_of(two), "a job is not on the host that lives"
    for job in (*jobs, kept):
        assert finished(site.balancer, job, PUBLIC)["status"] == "completed"
        check_content(site.balancer, job, PUBLIC)
    two.run("systemctl", "stop", "haproxy.service")
    wait_for("the balancer to notice", 20, lambda: request(site.balancer, PUBLIC, "/balancer-healthz")[0] == 503)


def main():
    root, dist, logs = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    logs.mkdir(parents=True, exist_ok=True)
    site = Site(root, logs)
    try:
        set_up(site, package_of(dist), site.balancer.work)
        failures = run_cases(cases_of(globals()), logs, site)
    finally:
        site.close()
    return failures > 0


sys.exit(main())
