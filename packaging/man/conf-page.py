#!/usr/bin/env python3
"""conf-page.py PREHEAT.CONF: preheat.conf(5) from the configuration file as it is shipped, which a test holds to the
program's own table of keys."""
import sys

HEAD = r""".TH PREHEAT.CONF 5 "" preheat "File formats"
.SH NAME
preheat.conf \- configuration of preheat
.SH SYNOPSIS
/etc/preheat/preheat.conf
.br
/etc/preheat/preheat.conf.d/*.conf
.SH DESCRIPTION
Sections in brackets, one key = value a line, comments after # or ;. Files of the directory are read after the main one
in the order of their names; a later value replaces an earlier one. A section or key that does not exist, a value that
is not allowed and a key that stands twice in one file are refused with file, line and what is allowed; preheatd then
answers 503 with that sentence. A line that starts with white space continues the text of the line before it.
.PP
A change is taken up by
.BR "systemctl try\-restart preheatd" ;
one of [model], [source] or [warmup] by
.B systemctl restart preheat\-warmup
before that.
For [limits] and [defaults]
.B systemctl reload preheatd
will do, which disturbs nobody.
.PP
Sizes take K, M, G, T for powers of 1024; times take ms, s, min, h, d, and are seconds without.
"""
TAIL = r""".SH "SEE ALSO"
.BR preheatctl (1),
.BR preheatd (8),
.BR preheat\-warmup (8)
"""


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in ".'" else text


def main():
    print(HEAD, end="")
    comment, in_section = [], False
    for line in open(sys.argv[1]).read().splitlines():
        if line.startswith("["):
            print(f".SH {line.strip('[]').upper()}\nSection {line}.")
            comment, in_section = [], True
        elif line.startswith("# ") and in_section:
            comment.append(line[2:])
        elif line.startswith("#") and in_section:
            name, _, value = line[1:].partition(" =")
            value = value.strip()
            print(f".TP\n.BR {escape(name)} \" = {escape(value) or '(empty)'}\"")
            text = " ".join(comment)
            meaning, _, allowed = text.partition(" Allowed: ")
            print(f"{escape(meaning)}\n.br\nAllowed: {escape(allowed)}")
            comment = []
    print(TAIL, end="")


main()
