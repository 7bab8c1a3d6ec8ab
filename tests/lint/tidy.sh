#!/bin/sh
# clang-tidy, file by file (version 14 invents va_list errors when given several files at once).
# Usage: tidy.sh BUILD_DIR [FILES...]; the build directory has compile_commands.json.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$1
shift
[ $# -gt 0 ] || set -- $(git ls-files 'engine/*.c' 'eval/*.c' 'recsys/*.c' 'server/*.c')
bad=$(printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 clang-tidy -quiet -p "$build" 2>/dev/null | grep -E '(warning|error):' | sort -u)
if [ -n "$bad" ]; then
    printf '%s\n' "$bad"
    exit 1
fi
echo "tidy: ok"
