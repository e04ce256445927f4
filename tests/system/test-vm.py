#!/usr/bin/env python3
"""test-vm.py ROOT DIST KERNEL LOGS: the installed package in a virtual machine, for what a container does not have: two
NUMA nodes, huge pages of its own, device rules, huge pages counted in control groups.

ROOT is what make-packages made, KERNEL a kernel's image (Linux 6.7 or newer). Emulated, hence slow, and all in memory:
about 2.5 GB. Prints the lines that vm-cases printed inside."""
import os
import pathlib
import shutil
import subprocess
import sys

from machine import Machine
from package import package_of

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 900
UNIT = """[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /root/vm-cases
StandardOutput=file:/dev/ttyS1
StandardError=journal+console
[Install]
WantedBy=default.target
"""


def initramfs(root, dist, logs, target):
    """ROOT with the package installed and a unit that runs the cases, as the first file system of a kernel."""
    m = Machine(root, logs / "console-install")
    try:
        shutil.copy(package_of(dist), m.tree / "root/preheat.deb")
        subprocess.run(["chroot", m.tree, "dpkg", "-i", "/root/preheat.deb"], check=True, capture_output=True)
        (m.tree / "root/preheat.deb").unlink()
        shutil.copy(HERE / "vm-cases", m.tree / "root/vm-cases")
        (m.tree / "etc/systemd/system/vm-cases.service").write_text(UNIT)
        subprocess.run(["systemctl", f"--root={m.tree}", "enable", "vm-cases.service"], check=True, capture_output=True)
        # What makes up most of the tree and is not looked at.
        for path in ("usr/share/doc", "usr/share/locale", "usr/share/i18n", "usr/lib/python3", "var/cache", "var/lib/apt"):
            shutil.rmtree(m.tree / path, ignore_errors=True)
        (m.tree / "init").symlink_to("usr/lib/systemd/systemd")
        subprocess.run("find . -xdev | cpio --quiet -o -H newc | gzip -1", shell=True, cwd=m.tree, check=True,
                       stdout=open(target, "wb"))
    finally:
        m.close()


def main():
    root, dist, kernel, logs = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
    logs.mkdir(parents=True, exist_ok=True)
    if not shutil.which("qemu-system-x86_64"):
        print("skip vm: qemu-system-x86_64 is not installed")
        return 0
    image, result = logs / "initramfs", logs / "result"
    initramfs(root, dist, logs, image)
    nodes = [option for n in (0, 1) for option in ("-object", f"memory-backend-ram,id=m{n},size=1200M", "-numa",
                                                   f"node,nodeid={n},memdev=m{n},cpus={n}")]
    try:
        subprocess.run(["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2400M",
                        *nodes, "-display", "none", "-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", image,
                        "-append", "console=ttyS0 panic=-1 systemd.show_status=no rootflags=size=80%", "-serial",
                        f"file:{logs / 'console'}", "-serial", f"file:{result}"], check=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"not ok vm: not over within {SECONDS} s, see {logs}/console")
        return 1
    finally:
        os.unlink(image)
    lines = result.read_text().splitlines()
    print("\n".join(lines) or f"not ok vm: it said nothing, see {logs}/console")
    return not lines or any(line.startswith("not ok") for line in lines)


sys.exit(main())
