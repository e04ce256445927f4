#!/bin/bash
# check.sh COMPLETION PREHEATCTL: what Tab offers at some places of a command line.
set -u
. "$1"
preheatctl=$2
bad=0
expect() { # WORDS WANTED
    read -r -a COMP_WORDS <<<"$1"
    [[ $1 != *' ' ]] || COMP_WORDS+=('')
    COMP_WORDS[0]=$preheatctl COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _preheatctl
    local got=" ${COMPREPLY[*]} "
    [[ $got == *" $2 "* ]] || { echo "'$1' offers '$got', wanted '$2' among it"; bad=1; }
}
expect 'preheatctl ' generate
expect 'preheatctl st' status
expect 'preheatctl st' start-report
expect 'preheatctl do' doctor
expect 'preheatctl release --i' --idle
expect 'preheatctl --url http://x gen' generate
expect 'preheatctl generate --gui' --guidance
expect 'preheatctl generate --scheduler e' euler
expect 'preheatctl model ' verify
expect 'preheatctl model add --chu' --chunk-size
expect 'preheatctl --tok' --token-file
exit $bad
