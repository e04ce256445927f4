#!/usr/bin/env python3
"""check-all.py MESON... BUILDDIR: each program, unit and configuration file that is installed has its manual page."""
import json
import pathlib
import subprocess
import sys

SECTIONS = {"bin": "1", "sbin": "8", "libexec/preheat": "8"}


def page_of(path):
    """The page that explains an installed file; None: it needs none."""
    directory = str(path.parent)
    for where, section in SECTIONS.items():
        if directory.endswith("/" + where):
            return f"{path.name}.{section}"
    if directory.endswith("/systemd/system"):
        return f"{path.name}.8"
    if directory.endswith("/etc/preheat"):
        return f"{path.name}.5"
    return None


def main():
    *meson, build = sys.argv[1:]
    said = subprocess.run([*meson, "introspect", "--installed", build], capture_output=True, text=True, check=True)
    files = [pathlib.PurePath(p) for p in json.loads(said.stdout).values()]
    pages = {f.name.removesuffix(".gz") for f in files if "/man/" in str(f)}
    wanted = {f: page_of(f) for f in files if page_of(f)}
    missing = [f"{f} has no page {page}" for f, page in sorted(wanted.items()) if page not in pages]
    print("\n".join(missing) or f"{len(wanted)} pages")
    return bool(missing) or len(wanted) < 10


sys.exit(main())
