#!/bin/bash
# The oracle's searches on the bundled Duo model: wall time and layer evaluations of the trie and, beside it, of every route by itself.
#   tests/bench/duo/search.sh [TOKENS]     THREADS=2 NAIVE=0 leaves out the slow one
set -eu
cd "$(dirname "$0")/../../.."
strobe=${STROBE:-build/release/server/strobe}
tokens=${1:-4096}
echo "# $tokens tokens, threads ${THREADS:-2}, load $(cut -d' ' -f1-3 /proc/loadavg)"
printf 'search\tnml\tseconds\tevaluations\tformula\n'
one() { # search, more options
    "$strobe" duo oracle -m deploy/model/strobe-duo.gguf --symbolic --tokens "$tokens" --committed 0 --placebo 0 --threads "${THREADS:-2}" --json -q --search "$@" |
        sed -n 's/.*"evaluations": *\([0-9]*\).*"formula": *\([0-9]*\).*"seconds": *\([0-9.]*\).*/\3\t\1\t\2/p' | sed "s/^/$1\t$([ "${2:-}" ] && echo no || echo yes)\t/"
}
one exhaustive
one exhaustive --no-nml
[ "${NAIVE:-1}" = 0 ] || one naive --no-nml
