#!/bin/bash
# check.sh COMPLETION PREHEATCTL: what Tab offers at some places of a command line, and every command and option that
# the program's help names.
set -u
. "$1"
preheatctl=$2
bad=0 n=0
offered() { # WORDS
    read -r -a COMP_WORDS <<<"$1"
    [[ $1 != *' ' ]] || COMP_WORDS+=('')
    COMP_WORDS[0]=$preheatctl COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _preheatctl
    echo " ${COMPREPLY[*]} "
}
expect() { # WORDS WANTED
    local got
    got=$(offered "$1")
    n=$((n + 1))
    [[ $got == *" $2 "* ]] || { echo "'$1' offers '$got', wanted '$2' among it"; bad=1; }
}
expect_none() { # WORDS
    [ "$(offered "$1")" = '  ' ] || { echo "'$1' offers '$(offered "$1")'"; bad=1; }
}
expect 'preheatctl st' status
expect 'preheatctl st' start-report
expect 'preheatctl do' doctor
expect 'preheatctl release --i' --idle
expect 'preheatctl --url http://x gen' generate
expect 'preheatctl generate --gui' --guidance
expect 'preheatctl generate --scheduler e' euler
expect 'preheatctl generate --priority b' batch
expect 'preheatctl generate --degrade c' cached
expect 'preheatctl model ' verify
expect 'preheatctl model add --chu' --chunk-size
expect 'preheatctl --tok' --token-file

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/directory"
touch "$scratch/file.png"
for option in generate\ --output generate\ -i get\ -o doctor\ --preheatd start-report\ --svg --socket --token-file --config; do
    expect "preheatctl $option $scratch/f" "$scratch/file.png"
done
expect "preheatctl model add $scratch/d" "$scratch/directory"
expect "preheatctl model list --models-dir $scratch/" "$scratch/directory"
expect_none 'preheatctl generate --seed '
expect_none "preheatctl model add $scratch/f"

help=$("$preheatctl" --help)
mapfile -t commands < <(sed -nE '/^Commands:/,/^$/s/^  ([a-z][a-z-]*( [a-z]+)?) .*/\1/p' <<<"$help")
[ ${#commands[@]} -ge 12 ] || { echo "the help names only ${#commands[@]} commands"; bad=1; }
for command in "${commands[@]}"; do
    expect "preheatctl $command" "${command##* }"
    for option in $("$preheatctl" $command --help | sed '1d' | grep -oE -- '--[a-z][a-z0-9-]+' | sort -u); do
        expect "preheatctl $command $option" "$option"
    done
done
for option in $(sed -n '/^Options/,$p' <<<"$help" | grep -oE '^ +(-[a-z], )?--[a-z][a-z-]+' | grep -oE -- '--?[a-z][a-z-]*'); do
    expect "preheatctl $option" "$option"
done
echo "$n places"
exit $bad
