"""Cases are functions case_NAME(machine, ...), run in the order in which they are written, each to one line: "ok NAME",
"not ok NAME: why", "skip NAME: why". What a failed one leaves to look at is in a file of its name."""
import time
import traceback


class Skip(Exception):
    """The machine that runs the tests lacks something that this case needs."""


def cases_of(namespace):
    """Of a module's globals()."""
    return [value for name, value in namespace.items() if name.startswith("case_")]


def name_of(case):
    return case.__name__.removeprefix("case_")


def run_cases(cases, logs, machine, *more):
    """Returns how many failed. machine's journal goes to the log, too."""
    failures = 0
    for case in cases:
        name, began = name_of(case), time.monotonic()
        try:
            case(machine, *more)
            print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
        except Skip as why:
            print(f"skip {name}: {why}", flush=True)
        except Exception as why:  # whatever it is, the next case is worth its run
            failures += 1
            print(f"not ok {name}: {str(why) or type(why).__name__}", flush=True)
            (logs / name).write_text(traceback.format_exc() + "\n" +
                                     machine.run("journalctl", "--no-pager", "-b", check=False).stdout)
    return failures
