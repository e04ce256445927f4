#!/usr/bin/env python3
"""check-text.py TOPDIR: what must not stand in the sources, and how long a file may be."""
import pathlib
import re
import sys

MAX_LINES = 800
MAX_COLUMNS = 100

# pattern, what is wrong, where it is allowed; looked for in code without strings and comments
RULES = [
    (r"\b(usleep|nanosleep|sleep)\s*\(", "sleeps; wait for the event", r"^tests/"),
    (r"(?<!asm__ )\bvolatile\b", "volatile is no synchronisation", r"^$|\.cuh?$"),
    (r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|rand|srand|tmpnam|system)\s*\(",
     "has a house or libc replacement", r"^tests/"),
    (r"\balloca\s*\(", "alloca", r"^$"),
    (r"\b(secure_)?getenv\s*\(", "environment outside mains, log and service",
     r"^daemon/[^/]+\.c$|^daemon/base/log\.c$|^daemon/service/|^tests/"),
    (r"//", "comments are /* */", r"^$"),
    (r"\bshutdown\s*\((?!c->fd)", "systemd owns the listening sockets", r"^tests/|^daemon/ctl/|^daemon/media/"),
]
COMMENT_RULES = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", "unfinished"),
    (r"/\*\s*[-=*#]{4,}", "section banner"),
]


def strip(text):
    """The text with strings emptied and comments gone, line by line as it was."""
    def blank(m):
        return '""' if m[0][0] == '"' else re.sub(r"[^\n]", "", m[0])
    return re.sub(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/', blank, text, flags=re.S)


def check(path, rel):
    text = path.read_text(errors="replace")
    lines, code_lines = text.split("\n"), strip(text).split("\n")
    if len(lines) > MAX_LINES and "generated" not in lines[0]:
        yield f"{rel}: has {len(lines)} lines, {MAX_LINES} are two files"
    fenced = False
    for n, (line, code) in enumerate(zip(lines, code_lines), 1):
        fenced = "clang-format off" in line or (fenced and "clang-format on" not in line)
        if len(line) > MAX_COLUMNS and not fenced:
            yield f"{rel}:{n}: has {len(line)} columns, {MAX_COLUMNS} are allowed"
        for pattern, what, where in RULES:
            if re.search(pattern, code) and not re.search(where, rel):
                yield f"{rel}:{n}: {what}: {line.strip()}"
        for pattern, what in COMMENT_RULES:
            if re.search(pattern, line):
                yield f"{rel}:{n}: {what}: {line.strip()}"


def main():
    top = pathlib.Path(sys.argv[1])
    files = sorted(p for d in ("daemon", "tests") for p in (top / d).rglob("*")
                   if p.suffix in (".c", ".cc", ".h", ".cu", ".cuh"))
    errors = [e for p in files for e in check(p, p.relative_to(top).as_posix())]
    print("\n".join(errors) or f"{len(files)} files")
    return bool(errors)


sys.exit(main())
