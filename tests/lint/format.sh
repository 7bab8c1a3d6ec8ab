#!/bin/sh
# Every C file is as clang-format leaves it.
set -u
cd "$(dirname "$0")/../.." || exit 1
git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror 2>&1 | grep -E 'error:' | sed 's/:[0-9]*: error.*/: not formatted/' | sort -u >"${TMPDIR:-/tmp}/strobe-format.$$"
n=$(wc -l <"${TMPDIR:-/tmp}/strobe-format.$$")
cat "${TMPDIR:-/tmp}/strobe-format.$$"
rm -f "${TMPDIR:-/tmp}/strobe-format.$$"
[ "$n" -eq 0 ] && echo "format: ok"
[ "$n" -eq 0 ]
