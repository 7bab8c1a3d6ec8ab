#!/bin/bash
# The oracle's searches on the bundled Duo model (12 layers, 4,096 routes): wall time and layer evaluations of the trie with and without the
# NML correction, and every route by itself on fewer tokens, with the time that all of them would take.
#   tests/bench/duo/search.sh [TOKENS]     TOKENS=4096 NAIVE_TOKENS=256 (0: leaves the slow one out) THREADS=2 STROBE=build/release/server/strobe
# About 2 minutes on two quiet cores: the trie 35 s each, naive 15 s for 256 tokens.
set -eu
cd "$(dirname "$0")/../../.."
strobe=${STROBE:-build/release/server/strobe}
tokens=${1:-${TOKENS:-4096}} naive=${NAIVE_TOKENS:-256}
echo "# threads ${THREADS:-2}, load $(cut -d' ' -f1-3 /proc/loadavg)"
printf 'search\tnml\ttokens\tevaluations\tformula\tseconds\tseconds_for_%s\tms_per_token\n' "$tokens"
one() { # tokens, nml, search, more options
    n=$1 nml=$2
    shift 2
    "$strobe" duo oracle -m deploy/model/strobe-duo.gguf --symbolic --tokens "$n" --committed 0 --placebo 0 --threads "${THREADS:-2}" --json -q --search "$@" |
        sed -n 's/.*"tokens": *\([0-9]*\).*"evaluations": *\([0-9]*\).*"formula": *\([0-9]*\).*"seconds": *\([0-9.]*\).*/\1 \2 \3 \4/p' |
        awk -v s="$1" -v nml="$nml" -v all="$tokens" '{ printf "%s\t%s\t%d\t%d\t%d\t%.1f\t%.1f\t%.2f\n", s, nml, $1, $2, $3, $4, $4 * all / $1, 1000 * $4 / $1 }'
}
one "$tokens" no exhaustive --no-nml
one "$tokens" yes exhaustive
[ "$naive" = 0 ] || one "$naive" no naive --no-nml
