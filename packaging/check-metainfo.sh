#!/bin/bash
# check-metainfo.sh FILE VERSION: appstreamcli finds nothing to say, and the newest release is this version.
set -u
command -v appstreamcli >/dev/null || exit 77
bad=0
said=$(appstreamcli validate --no-net --pedantic "$1") || bad=1
# The domain of this project's address is one that is reserved for examples.
said=$(grep -E '^[EWIP]:' <<<"$said" | grep -v ' cid-maybe-not-rdns ')
[ -z "$said" ] || { echo "$said"; bad=1; }
newest=$(sed -n 's/.*<release version="\([^"]*\)".*/\1/p' "$1" | head -n 1)
[ "$newest" = "$2" ] || { echo "$1: the newest release is '$newest', meson.build has '$2'"; bad=1; }
exit $bad
