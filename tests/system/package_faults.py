"""What happens to the installed package, from the first request to clocks that jump."""
import pathlib
import re
import shutil
import subprocess
import time

from cases import Skip
from client import LONG, TCP, UNIX, check_content, create, finished, get, running, serving, video
from machine import wait_for
from package import SOCKETS, alive, configure, drop_in, main_pid, parked, segment, stop, warm

IDLE_EXITS = CRASHES = 100
LOAD_FAILED, WARM = "251eee93d77f47b9bc29a5f692a8b5ec", "985f4f6337c9414a8fefbfbc1ec89f69"
CLOCK = "/run/preheat-clock"  # how far preheatd's CLOCK_REALTIME is off
DAY = 86400
HALF = "/var/lib/preheat/half"  # a copy of the tiny model, in more pieces
WARMUP = "preheat-warmup.service"


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
    drop_in(m, "[Unit]\nStartLimitIntervalSec=3s\n")
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
    drop_in(m, None)
    alive(m)


def case_hundred_crashes_in_a_row_keep_the_sockets(m):
    """As above, with SIGKILL."""
    stop(m)
    drop_in(m, "[Unit]\nStartLimitIntervalSec=3s\n[Service]\nRestartSec=50ms\nRestartSteps=0\n")
    pids = set()
    for n in range(CRASHES):
        began = time.monotonic()
        status, _ = get(m, TCP, "/v1/videos")
        assert status == 200, f"crash {n}: {status}"
        pids.add(main_pid(m))
        m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "preheatd.service")
        time.sleep(max(0, 0.25 - (time.monotonic() - began)))
    assert len(pids) >= CRASHES - 1, f"only {len(pids)} daemons"
    video(m)
    drop_in(m, None)
    alive(m)


def case_crash_loop_is_limited_and_has_a_way_out(m):
    stop(m)
    drop_in(m, "[Service]\nType=simple\nExecStart=\nExecStart=/bin/false\nRestartSec=50ms\nRestartSteps=0\n")
    m.run("curl", "-s", "-m", "2", f"{TCP[0]}/healthz", check=False)
    wait_for("the start limit", 30, lambda: m.show("preheatd.service", "ActiveState") == "failed", 0.3)
    assert int(m.show("preheatd.service", "NRestarts")) <= 20
    drop_in(m, None)
    shown = m.run("systemctl", "status", "--no-pager", "-l", "preheatd.service", check=False).stdout
    way_out = re.findall(r"systemctl (?:reset-failed|start) [\w. -]+", shown)
    assert len(way_out) == 2, shown
    for command in way_out:
        m.run(*command.split())
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


def case_stop_leaves_the_encoder_to_its_job(m):
    """A stop gives the job that runs time to end, hence must not end its encoder."""
    for _ in range(3):
        job = create(m, **LONG)
        wait_for("the encoder", 20, lambda: m.run("pgrep", "-x", "preheat-media", check=False).stdout, 0.02)
        stop(m)
        done = finished(m, job)
        assert done["status"] == "completed", done


def case_watchdog_ends_a_stopped_daemon(m):
    """Shorter times than the unit's 60 s and 30 s."""
    stop(m)
    drop_in(m, "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=2s\nTimeoutStopSec=2s\n")
    get(m, TCP, "/v1/videos")
    pid = main_pid(m)
    m.run("kill", "-STOP", pid)
    wait_for("the watchdog", 20, lambda: main_pid(m) not in (pid, "0"), 0.3)
    assert "Watchdog timeout" in m.run("journalctl", "--no-pager", "-u", "preheatd").stdout
    video(m)
    drop_in(m, None)
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
    drop_in(m, "[Service]\nLimitMEMLOCK=64K\n")
    video(m)
    drop_in(m, None)


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


def set_clock(m, offset):
    """Only preheatd's CLOCK_REALTIME: the machine's own clock is everybody's."""
    m.write(CLOCK, f"{offset}\n")


def case_clock_jumps_disturb_nothing(m):
    """A day ahead and two days back while a job runs; ahead and back while the daemon counts its idle time."""
    if not shutil.which("cc"):
        raise Skip("there is no compiler for the library that shifts the clock")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", m.tree / "usr/local/lib/clock-shift.so",
                    pathlib.Path(__file__).with_name("clock-shift.c")], check=True)
    set_clock(m, 0)
    configure(m, "[daemon]\nidle_exit = 10s\n")
    drop_in(m, f"[Service]\nEnvironment=LD_PRELOAD=/usr/local/lib/clock-shift.so CLOCK_SHIFT={CLOCK}\n")
    jobs = []
    for offset in (DAY, -DAY):
        job = create(m, **LONG)
        jobs.append(job)
        running(m, job)
        set_clock(m, offset)
        done = finished(m, job)
        assert done["status"] == "completed", done
        assert 0 < sum(done["stage_seconds"].values()) < 100, done
        off = done["completed_at"] - time.time() - offset
        assert abs(off) < 300, f"the daemon's clock is {off} s from where this test put it"
    for entry in m.journal(*(f"JOB={job}" for job in jobs)):
        assert 0 < float(entry["SECONDS"]) < 100, entry
    pid, began = main_pid(m), time.monotonic()
    set_clock(m, 2 * DAY)
    time.sleep(2)
    set_clock(m, -2 * DAY)
    time.sleep(4)
    assert main_pid(m) == pid, "the clock's jump counts as idle time"
    wait_for("idle exit", 12, lambda: main_pid(m) == "0", 0.3)
    assert time.monotonic() - began > 9
    assert m.show("preheatd.service", "Result") == "success"
    drop_in(m, None)
    configure(m, None)
    alive(m)
    for job in jobs:
        check_content(m, job)


def sleep_for(m, seconds):
    """As systemctl suspend, with a program that only takes its time in place of the kernel's sleep; it notes what runs."""
    note = "for u in preheatd.service preheatd.socket preheat-warmup.service; do systemctl is-active $u; done >/run/at-sleep"
    m.write("/run/systemd/system/systemd-suspend.service.d/test.conf",
            f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{note}; sleep {seconds}; echo woken >>/run/at-sleep'\n")
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "start", "suspend.target", timeout=90)
    return m.run("cat", "/run/at-sleep").stdout.split()


def case_sleep_stops_the_daemon_and_keeps_the_rest(m):
    """A job that runs is queued again, and a client that comes while the machine falls asleep does not keep it awake."""
    before = warm(m)
    job = create(m, **LONG)
    running(m, job)
    asked = m.start("sh", "-c", "while [ ! -s /run/at-sleep ]; do sleep 0.1; done; "
                    f"curl -s -o /dev/null -w '%{{http_code}}' -m 60 {TCP[0]}/v1/videos")
    states = sleep_for(m, 3)
    assert states == ["inactive", "active", "active", "woken"], states
    assert asked.communicate(timeout=60)[0] == "200"
    done = finished(m, job)
    assert done["status"] == "completed", done
    assert segment(m) == before
    alive(m)


def case_sleep_gives_parked_weights_back(m):
    """What is on the device need not survive a sleep."""
    warm(m)
    configure(m, "[backend]\npark_vram = yes\n")
    serving(m)
    n = wait_for("parking", 20, lambda: parked(m))
    stop(m)
    assert parked(m) == n
    states = sleep_for(m, 0)
    assert states[-1] == "woken", states
    assert parked(m) == 0
    configure(m, None)
    alive(m)


def case_load_of_a_damaged_file_fails_and_says_where(m):
    name = "transformer/diffusion_pytorch_model.safetensors"
    file = f"{HALF}/{name}"
    m.run("cp", "-r", "/usr/share/preheat/models/tiny-wan", HALF)
    configure(m, f"[model]\nname = half\npath = {HALF}\n[warmup]\nchunk_size = 2M\nretries = 0\n")
    drop_in(m, "[Service]\nRestart=no\n", WARMUP)
    m.run("systemctl", "restart", WARMUP)
    m.run("systemctl", "stop", WARMUP)
    m.run("cp", "-p", file, f"{HALF}/whole")
    m.run("sh", "-c", f"printf X | dd of={file} bs=1 seek=300000 conv=notrunc && touch -r {HALF}/whole {file}")
    m.run("systemctl", "start", WARMUP, check=False)
    assert m.show(WARMUP, "ActiveState") == "failed"
    assert name in m.show(WARMUP, "StatusText"), m.show(WARMUP, "StatusText")
    entry = m.journal(f"MESSAGE_ID={LOAD_FAILED}")[-1]
    assert entry["MODEL"] == "half" and int(entry["CHUNK"]) >= 0 and entry["PRIORITY"] == "3", entry
    assert "could not be loaded" in m.run("journalctl", "--no-pager", "-x", f"MESSAGE_ID={LOAD_FAILED}").stdout
    m.run("systemctl", "stop", WARMUP)


def case_warm_up_killed_half_way_goes_on(m):
    """The same damage, and time to wait for its repair: the rest is loaded meanwhile."""
    configure(m, f"[model]\nname = half\npath = {HALF}\n[warmup]\nchunk_size = 2M\nretries = 9\nretry_delay = 5min\n")
    drop_in(m, "[Service]\nRestartSec=500ms\n", WARMUP)
    m.run("systemctl", "start", "--no-block", WARMUP)
    wait_for("half the weights", 20, lambda: re.search(r"loading: [1-9]\d %", m.show(WARMUP, "StatusText")))
    m.run("cp", "-p", f"{HALF}/whole", f"{HALF}/transformer/diffusion_pytorch_model.safetensors")
    m.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", WARMUP)
    wait_for("the load to be over", 20, lambda: m.show(WARMUP, "ActiveState") == "active")
    said = m.journal(f"MESSAGE_ID={WARM}", "MODEL=half")[-1]["MESSAGE"]
    chunks, found = (int(re.search(p, said)[1]) for p in (r"in (\d+) chunks", r": (\d+) were there"))
    assert 0 < found < chunks, said
    assert video(m)["start"] == "cold_host"
    m.run("systemctl", "stop", "preheatd.service", WARMUP)
    drop_in(m, None, WARMUP)
    configure(m, None)
    m.run("rm", "-r", HALF)
    m.run("systemctl", "reset-failed", WARMUP, check=False)
    alive(m)
