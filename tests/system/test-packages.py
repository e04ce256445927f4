#!/usr/bin/env python3
"""test-packages.py ROOT DIST LOGS [CASE...]: the life of the .deb in a booted Debian, from installing to purging.

ROOT is what make-packages made, DIST holds the package, and releases 1 and 2 of the .rpm if that is to be tried. Cases
follow one another on one machine, in this order; a name picks single ones, after installing. Needs root and
systemd-nspawn."""
import pathlib
import shutil
import sys

import package_faults
import package_install
import package_life
import package_rpm
from cases import cases_of, name_of, run_cases
from machine import Machine, host_pages, huge_pages
from package import newer, package_of

ROOMS = (package_install, package_faults, package_life, package_rpm)


def chosen(wanted, has_rpms):
    """Installing comes first, whatever was asked for."""
    rooms = ROOMS if has_rpms else [r for r in ROOMS if r is not package_rpm]
    first, *others = (case for room in rooms for case in cases_of(vars(room)))
    return [first, *(c for c in others if not wanted or name_of(c) in wanted)]


def main():
    root, dist, logs, wanted = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4:]
    logs.mkdir(parents=True, exist_ok=True)
    m = Machine(root, logs / "console", lends_huge_pages=True)
    try:
        package = package_of(dist)
        shutil.copy(package, m.tree / "root/preheat.deb")
        shutil.copy(newer(package, m.work), m.tree / "root/newer.deb")
        rpms = sorted(p for p in dist.glob("preheat-[0-9]*.rpm") if not p.name.endswith(".src.rpm"))
        for rpm_file, name in zip(rpms, ("preheat.rpm", "next.rpm")):
            shutil.copy(rpm_file, m.tree / "root" / name)
        m.boot()
        print(m.run("systemctl", "--version").stdout.splitlines()[0], flush=True)
        # The pages are those of the machine that runs this: 64 may be taken meanwhile.
        with huge_pages(host_pages("Total"), 64):
            failures = run_cases(chosen(wanted, len(rpms) == 2), logs, m)
    finally:
        m.close()
    return failures > 0


sys.exit(main())
