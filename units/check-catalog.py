#!/usr/bin/env python3
"""check-catalog.py LOG-HEADER CATALOG...: each catalogue explains each event of base/log.h and no other, with the same
fields and pages in each language, and journalctl takes them."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

REQUIRED = ("Subject", "Defined-By", "Documentation")


def entries(path):
    """Message id -> (headers, text)."""
    found = {}
    for block in re.split(r"^-- ", path.read_text(), flags=re.M)[1:]:
        head, _, body = block.partition("\n\n")
        identity, *headers = head.splitlines()
        assert identity not in found, f"{path}: {identity} stands there twice"
        found[identity] = (dict(line.split(": ", 1) for line in headers), body.strip())
    return found


def complaints(log, catalogs):
    events = dict((i, name) for name, i in re.findall(r'#define (LOG_ID_\w+) "MESSAGE_ID=([0-9a-f]{32})"', log.read_text()))
    all_entries = {path: entries(path) for path in catalogs}
    first = all_entries[catalogs[0]]
    for path, found in all_entries.items():
        yield from (f"{path.name}: {events[i]} ({i}) is not explained" for i in events.keys() - found.keys())
        yield from (f"{path.name}: {i} is no event of {log.name}" for i in found.keys() - events.keys())
        for i, (headers, text) in found.items():
            yield from (f"{path.name}: {i} has no {name}" for name in REQUIRED if name not in headers)
            if len(text) < 80:
                yield f"{path.name}: {i} is not explained in '{text}'"
            fields = lambda entry: set(re.findall(r"@(\w+)@", entry[0]["Subject"] + entry[1]))
            if i in first and (fields(found[i]) != fields(first[i])
                               or headers["Documentation"] != first[i][0]["Documentation"]):
                yield f"{path.name}: {i} has other fields or pages than in {catalogs[0].name}"
    if not events:
        yield f"{log} names no event"


def taken(catalogs):
    """What journalctl says of them."""
    if not shutil.which("journalctl"):
        return
    with tempfile.TemporaryDirectory() as root:
        directory = pathlib.Path(root) / "usr/lib/systemd/catalog"
        directory.mkdir(parents=True)
        for path in catalogs:
            shutil.copy(path, directory)
        said = subprocess.run(["journalctl", f"--root={root}", "--update-catalog"], capture_output=True, text=True)
        yield from (said.stdout + said.stderr).splitlines()


def main():
    log, catalogs = pathlib.Path(sys.argv[1]), [pathlib.Path(a) for a in sys.argv[2:]]
    found = [*complaints(log, catalogs), *taken(catalogs)]
    print("\n".join(found) or f"{len(catalogs)} catalogues")
    return bool(found)


sys.exit(main())
