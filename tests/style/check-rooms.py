#!/usr/bin/env python3
"""check-rooms.py FLOORPLAN SRCDIR: a room includes only what FLOORPLAN allows, and FLOORPLAN has no cycle.

FLOORPLAN lines: "room: room room". A room may include itself; *-impl.h never leaves its room; files directly in
SRCDIR are mains, which may include every room."""
import pathlib
import re
import sys


def read_plan(path):
    allowed = {}
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            room, _, rest = line.partition(":")
            allowed[room.strip()] = set(rest.split())
    return allowed


def find_cycle(allowed):
    done = set()

    def visit(room, path):
        if room in path:
            return path[path.index(room):] + [room]
        if room not in done:
            for other in sorted(allowed.get(room, ())):
                if cycle := visit(other, path + [room]):
                    return cycle
            done.add(room)
        return None

    return next((c for r in sorted(allowed) if (c := visit(r, []))), None)


def check_file(path, rel, allowed, rooms):
    def owner(name):
        return next((r for r in rooms if name.startswith(r + "/")), None)

    room = owner(rel)
    if room is None:
        yield f"{rel}: is in no room of the plan"
        return
    for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        to = owner(m[1]) if m else None
        if to and to != room and (to not in allowed[room] or m[1].endswith("-impl.h")):
            yield f"{rel}:{n}: {room} may not include {m[1]}"


def main():
    plan, src = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    allowed = read_plan(plan)
    errors = [f"{plan}: '{r}' is not defined" for deps in allowed.values() for r in deps if r not in allowed]
    if cycle := find_cycle(allowed):
        errors.append(f"{plan}: cycle {' -> '.join(cycle)}")
    rooms = sorted(allowed, key=len, reverse=True)  # backend/cpu before backend
    for path in sorted(src.rglob("*")):
        rel = path.relative_to(src).as_posix()
        if path.suffix in (".c", ".cc", ".h", ".cu", ".cuh") and "/" in rel:
            errors += check_file(path, rel, allowed, rooms)
    print("\n".join(errors) or f"{len(rooms)} rooms")
    return bool(errors)


sys.exit(main())
