#!/usr/bin/env python3
"""check-api.py PAGE ROUTER REQUEST-JSON: each call that the server answers, and each field that it takes, stands in its page."""
import re
import sys


def main():
    page, router, request = (open(path).read() for path in sys.argv[1:])
    said = re.sub(r"\\f[BIR]|[\"\n]", " ", page).replace("\\-", "-")
    calls = [f"{method} {path.replace('{}', 'ID')}" for method, path in
             re.findall(r'^        \{"([A-Z]+)", "(/[^"]*)",', router, re.M)]
    fields = re.findall(r'^        \{"(\w+)", FIELD_', request, re.M)
    missing = [w for w in calls + fields if not re.search(rf"(?<![\w/]){re.escape(w)}(?![\w/])", said)]
    print("\n".join(f"{m} is not in the page" for m in missing) or f"{len(calls)} calls, {len(fields)} fields")
    return bool(missing) or len(calls) < 10 or len(fields) < 18


sys.exit(main())
