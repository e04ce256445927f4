#!/usr/bin/env python3
"""check-page.py PAGE PROGRAM: each command and each option that the program's help names stands in its page, and no other
option has a paragraph there."""
import re
import subprocess
import sys


OPTION = re.compile(r"(?<![\w-])(?:--[a-z0-9][a-z0-9-]+|-[a-z](?=,? ))")


def words(*command):
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(OPTION.findall(text)), text


def main():
    page = re.sub(r"\\f[BIR]", " ", open(sys.argv[1]).read()).replace("\\-", "-")
    options, text = words(sys.argv[2], "--help")
    commands = re.findall(r"^  ([a-z-]+(?: [a-z]+)?) +(?:[A-Z\[]|.)", text.split("Commands:")[-1].split("Options")[0],
                          re.M) if "Commands:" in text else []
    for command in commands:
        options |= words(sys.argv[2], *command.split(), "--help")[0]
    here = set(OPTION.findall(page.replace('"', " ").replace("\n", " ")))
    missing = sorted(options - {"-h", "--help"} - here)
    # The first line of a paragraph names what it is about.
    strange = {o for line in re.findall(r"^\.TP\n(\..*-.*)", page, re.M) for o in OPTION.findall(line.replace('"', " ") + " ")}
    strange = [o for o in sorted(strange - options - {"--help", "--version"}) if o.startswith("--")]
    missing += [c for c in commands if f'.SS "{c}' not in page]
    print("\n".join([f"{m} is not in the page" for m in missing] + [f"{s} is not in the help" for s in strange])
          or f"{len(options)} options, {len(commands)} commands")
    return bool(missing or strange) or not options


sys.exit(main())
