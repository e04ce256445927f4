#!/usr/bin/env python3
"""check-format.py TOPDIR: every C file is as clang-format 14 writes it. Other versions break lines elsewhere, hence
exit 77 where there is no 14."""
import pathlib
import re
import shutil
import subprocess
import sys


def find():
    for name in ("clang-format-14", "clang-format"):
        if path := shutil.which(name):
            version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            if re.search(r"version 14\.", version):
                return path
    return None


def main():
    top, tool = pathlib.Path(sys.argv[1]), find()
    if not tool:
        print("clang-format 14 is not installed")
        return 77
    files = sorted(str(p) for d in ("daemon", "tests") for p in (top / d).rglob("*") if p.suffix in (".c", ".cc", ".h"))
    run = subprocess.run([tool, "--dry-run", "-Werror", "--ferror-limit=1", *files], capture_output=True, text=True)
    wrong = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", run.stderr, re.M)))
    print("\n".join(f"{f}: clang-format -i would change it" for f in wrong) or f"{len(files)} files")
    return bool(wrong) or run.returncode


sys.exit(main())
