#!/bin/sh
# Every header compiles alone, with gcc and, where present, clang.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
for compiler in gcc clang; do
    command -v "$compiler" >/dev/null 2>&1 || continue
    for h in $(git ls-files 'engine/*.h' 'eval/*.h' 'recsys/*.h' 'server/*.h' 'tests/support/*.h'); do
        printf '#include "%s"\n' "$h" | "$compiler" -std=c17 -D_GNU_SOURCE -I. -I"${STROBE_BUILD:-.}" \
            -Wall -Wextra -Wno-unused-parameter -fsyntax-only -x c - || { echo "$h: does not compile alone ($compiler)"; bad=1; }
    done
done
[ $bad -eq 0 ] && echo "headers: ok"
exit $bad
