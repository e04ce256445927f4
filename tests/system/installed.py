"""preheat as a build installs it, in a machine that is not booted yet."""
import os
import shutil
import subprocess


def install(m, build):
    """With the backend whose faults a test chooses, and the units enabled as a package does."""
    env = dict(os.environ, DESTDIR=str(m.tree))
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet"], check=True, env=env)
    faulty = m.tree / "usr/lib/preheat-test"
    faulty.mkdir()
    shutil.copy(f"{build}/tests/daemon/faulty-backend.so", faulty)
    enable(m)


def enable(m):
    for unit, target in (("preheatd.socket", "sockets"), ("preheatd-api.socket", "sockets"),
                         ("preheat-warmup.service", "multi-user")):
        link = m.tree / f"etc/systemd/system/{target}.target.wants" / unit
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/lib/systemd/system/{unit}")
