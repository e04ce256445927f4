#!/usr/bin/env python3
"""check-symbols.py SRCDIR BUILDDIR: every symbol that leaves a file carries the file's noun; no room calls
exit or abort.

The nouns of store/manifest.c: "manifest", its singular, and the types that the headers of store/ define (Memory in
backend/backend.h allows memory_new). A room within a room (backend/cpu) may also use its own name."""
import pathlib
import re
import subprocess
import sys

# Named after the thing and not the file, on purpose.
EXCEPTIONS = {"weights_open", "picture_sniff"}
FORBIDDEN_CALLS = {"exit", "abort", "quick_exit", "err", "errx"}
NOT_IN_ROOMS = "calls {}(), which only a main may"


def words(name):
    return [w.lower() for w in re.findall(r"[A-Z][a-z0-9]*", name)]


def nouns_of(src, room, stem):
    nouns = {noun for n in (stem.replace("-", "_"), stem.split("-")[0]) for noun in (n, n.rstrip("s"))}
    if "/" in room:
        nouns |= {room.split("/")[-1], room.replace("/", "_")}
    for header in (src / room).glob("*.h"):
        for name in re.findall(r"\b(?:struct|enum|typedef \w+) ([A-Z]\w+)", header.read_text()):
            nouns |= {words(name)[0], "_".join(words(name))}
    return nouns


def symbols(archive):
    """(object's source name, kind, symbol)"""
    out = subprocess.run(["nm", "-A", "-g", archive], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        m = re.match(r".*?([\w.-]+)\.o:\s*[0-9a-f]*\s+([A-Za-z]) (\S+)$", line)
        if m:
            yield m[1], m[2], m[3]


def main():
    src, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    archives = sorted(build.rglob("*.a"))
    errors, n = [], 0
    for archive in archives:
        room = archive.parent.relative_to(build).as_posix()
        for source, kind, symbol in symbols(archive):
            if kind == "U" and symbol in FORBIDDEN_CALLS:
                errors.append(f"{room}/{source}: " + NOT_IN_ROOMS.format(symbol))
            if kind in "Uwv" or symbol.startswith("_"):
                continue
            n += 1
            nouns = nouns_of(src, room, source.rsplit(".", 1)[0])
            if symbol not in EXCEPTIONS and not any(symbol == noun or symbol.startswith(noun + "_") for noun in nouns):
                errors.append(f"{room}/{source}: '{symbol}' does not begin with {' or '.join(sorted(nouns))}")
    print("\n".join(errors) or f"{n} symbols in {len(archives)} rooms")
    return bool(errors) or n == 0


sys.exit(main())
