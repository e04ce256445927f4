#!/usr/bin/env python3
"""check-headers.py COMPILER SRCDIR: each header compiles alone and included twice, has its guard, and begins with
"/* noun - what it is"."""
import concurrent.futures
import pathlib
import re
import shlex
import subprocess
import sys


def check(cc, src, path):
    rel = path.relative_to(src).as_posix()
    text = path.read_text()
    errors = []
    if not re.match(r"/\* [\w-]+ - \S", text):
        errors.append(f"{rel}:1: does not begin with '/* noun - what it is'")
    guard = re.search(r"^#ifndef (PREHEAT_\w+_H)\n#define \1$", text, re.M)
    if not guard or path.stem.split("-")[0].upper() not in guard[1]:
        errors.append(f"{rel}: has no guard PREHEAT_ROOM_FILE_H")
    unit = f'#include "{rel}"\n#include "{rel}"\n'
    run = subprocess.run(cc + ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
                               "-fsyntax-only", "-I", str(src), "-x", "c", "-"],
                         input=unit, capture_output=True, text=True)
    if run.returncode:
        errors.append(f"{rel}: does not compile alone and twice:\n{run.stderr}")
    return errors


def main():
    cc, src = shlex.split(sys.argv[1]), pathlib.Path(sys.argv[2])
    headers = sorted(src.rglob("*.h"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        errors = [e for es in pool.map(lambda h: check(cc, src, h), headers) for e in es]
    print("\n".join(errors) or f"{len(headers)} headers")
    return bool(errors)


sys.exit(main())
