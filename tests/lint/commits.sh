#!/bin/sh
# Commit subjects: "area: imperative", no full stop, at most 100 characters.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=$(git log --no-merges --format=%s -n 200 2>/dev/null | grep -vE "^Merge branch '" | grep -vE '^[a-z][a-z0-9 ,/+_.-]*: .{1,90}[^.]$' || true)
if [ -n "$bad" ]; then
    printf '%s\n' "$bad" | sed 's/^/commit subject: /'
    exit 1
fi
echo "commits: ok"
