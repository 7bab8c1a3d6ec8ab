#!/bin/bash
# The same run three ways: in process with the shared part of the prompt computed once; over HTTP from `strobe serve`, whose slots
# are told to keep nothing between requests (as many servers do); and over HTTP with reuse.
#   tests/bench/eval/prefix.sh [-m MODEL] [--items 24] [--max-tokens 24]
# Prints one line each: answers per second and prompt tokens computed. Needs a release build (STROBE_BUILD, default build/release).
set -eu
cd "$(dirname "$0")/../../.."
build=${STROBE_BUILD:-build/release}
model= items=24 max=24
while [ $# -gt 0 ]; do
    case $1 in
    -m) model=$2; shift 2 ;;
    --items) items=$2; shift 2 ;;
    --max-tokens) max=$2; shift 2 ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "prefix.sh: unknown word '$1'" >&2; exit 2 ;;
    esac
done
work=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; wait 2>/dev/null; rm -rf "$work"' EXIT
if [ -z "$model" ]; then # small, with room for all eight examples
    model=$work/synth.gguf
    "$build/tests/bench/synth_gguf" --layers 4 --embd 256 --ff 1024 --heads 4 --kv 4 --vocab 4096 --ctx 8192 "$model" >/dev/null
fi
field() { sed "s/.*\"$2\":\([0-9.e-]*\).*/\1/" "$1"; } # JSON file, name
say() { # name, JSON file
    awk -v name="$1" -v rate="$(field "$2" per_second)" -v prompt="$(field "$2" prompt_tokens)" -v cached="$(field "$2" cached_tokens)" \
        -v once="$(field "$2" prefix_tokens)" 'BEGIN {
        printf "%-19s answers_per_s=%.2f prompt_tokens=%d computed=%d (of them once for all: %d)\n", name, rate, prompt, prompt - cached + once, once }'
}
name=$(basename "$model" .gguf)
common="--variant both -n 50 --limit $items --max-tokens $max --api completions -q --json --concurrency 4"
"$build/server/strobe" eval run -m "$model" --ctx 8192 --data "$work/a" $common >"$work/a.json"
say "in process" "$work/a.json"
shots=$("$build/server/strobe" eval list --data "$work/a" --json | sed 's/.*"shots":\([0-9]*\).*/\1/')
"$build/server/strobe" serve -m "$model" --ctx 8192 --port 0 --data "$work/s" >"$work/serve" 2>"$work/serve.log" &
pids="$pids $!"
for _ in $(seq 200); do grep -q 'listening on' "$work/serve" && break; sleep 0.05; done
url=$(sed -n 's/^listening on //p' "$work/serve")
"$build/server/strobe" eval run --endpoint "$url" --model "$name" --data "$work/b" $common --shots "$shots" --extra '{"cache_prompt":false}' >"$work/b.json"
say "HTTP without reuse" "$work/b.json"
"$build/server/strobe" eval run --endpoint "$url" --model "$name" --data "$work/c" $common --shots "$shots" >"$work/c.json"
say "HTTP with reuse" "$work/c.json"
awk -v a="$(field "$work/a.json" per_second)" -v b="$(field "$work/b.json" per_second)" 'BEGIN {
    printf "in process against HTTP without reuse: %.1f times (goal: 3)\n", a / b }'
