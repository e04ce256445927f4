#!/usr/bin/env python3
"""check-page.py PAGE PROGRAM: each command and each option that the program's help names stands in its page."""
import re
import subprocess
import sys


def words(*command):
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]+", text)), text


def main():
    page = open(sys.argv[1]).read().replace("\\-", "-")
    options, text = words(sys.argv[2], "--help")
    commands = re.findall(r"^  ([a-z-]+(?: [a-z]+)?) +(?:[A-Z\[]|.)", text.split("Commands:")[-1].split("Options")[0],
                          re.M) if "Commands:" in text else []
    for command in commands:
        options |= words(sys.argv[2], *command.split(), "--help")[0]
    missing = sorted(o for o in options - {"--help"} if o not in page)
    missing += [c for c in commands if f'.SS "{c}' not in page]
    print("\n".join(f"{m} is not in the page" for m in missing) or f"{len(options)} options, {len(commands)} commands")
    return bool(missing) or not options


sys.exit(main())
