#!/usr/bin/env python3
"""check-units.py SYSTEMD-ANALYZE UNITDIR SBINDIR: the units of the build parse without a word from systemd.

Verified in a copy whose programs exist (/bin/true stands in for ours, which need not be installed), and without
manual pages, for the same reason."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def main():
    analyze, build, sbin = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as tmp:
        units = []
        for path in sorted(build.iterdir()):
            if path.suffix in (".service", ".socket", ".mount", ".slice"):
                text = path.read_text().replace(f"{sbin}/preheat-warmup", "/bin/true")
                text = re.sub(r"=/\S*/preheat(ctl|-keeper)\b", "=/bin/true", text.replace(f"{sbin}/preheatd", "/bin/true"))
                (pathlib.Path(tmp) / path.name).write_text(text)
                units.append(path.name)
        env = dict(os.environ, SYSTEMD_UNIT_PATH=f"{tmp}:", SYSTEMD_LOG_LEVEL="warning")
        run = subprocess.run([analyze, "verify", "--man=no", *(f"{tmp}/{u}" for u in units)],
                             capture_output=True, text=True, env=env)
    # What is said of the machine's own units is not ours to mend.
    ours = [line for line in (run.stdout + run.stderr).splitlines() if re.search(r"preheat", line)]
    print("\n".join(ours) or f"{len(units)} units")
    return bool(ours) or not units


sys.exit(main())
