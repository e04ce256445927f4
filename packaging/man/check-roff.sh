#!/bin/bash
# check-roff.sh DIRECTORY PAGE...: groff says nothing about the manual pages, and a .so leads to a page that is there and
# names the unit that was looked up.
set -u
command -v man >/dev/null || exit 77
directory=$1
shift
bad=0
for page in "$directory"/*.[1-8] "$@"; do
    if read -r so target <"$page" && [ "$so" = .so ]; then
        unit=$(basename "${page%.[1-8]}")
        sed 's/\\-/-/g' "$directory/${target##*/}" | grep -qF "$unit" ||
            { echo "$page: $target is not there, or does not name $unit"; bad=1; }
        continue
    fi
    said=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
    [ -z "$said" ] || { echo "$said"; bad=1; }
    grep -q '^\.SH NAME' "$page" || { echo "$page: has no section NAME"; bad=1; }
done
exit $bad
